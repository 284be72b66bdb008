"""Draws docs/performance.md's tables and picture from the recorded results; no number there is written by hand.

python benchmarks/page.py
"""

from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "rolewise", "svg.fonttype": "none", "font.family": "sans-serif"})
from gpu_page import checks_part, gpu_part  # noqa: E402 - the backend is chosen first
from inference_page import draw_inference, inference_part  # noqa: E402 - the backend is chosen first
from matplotlib import pyplot as plt  # noqa: E402
from page_text import ROOT, figure_at, grid, load, number, origin, table  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- tables: written by benchmarks/page.py -->", "<!-- end of tables -->"
NETWORKS = ("resnet18", "resnet8-small")
STEP_TARGETS = {
    "resnet18": {
        "trainer": "at most 1.03",
        "+ 4-bit": "at most 1.30",
        "+ 4-bit + soft": "at most 1.75",
        "+ 4-bit + rkd": "at most 1.75",
        "+ 4-bit + ii-kd": "at most 2.3",
    },
    "resnet8-small": {"trainer": "at most 1.03", "+ 4-bit + ii-kd": "at most 3.0"},
}


@dataclass(frozen=True)
class Goal:
    """What a figure was to reach: a median, or a plain number, within bounds."""

    text: str
    result: str
    path: tuple[str, ...]
    low: float | None = None
    high: float | None = None

    @property
    def wanted(self) -> str:
        """The bounds in words."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"

    def holds(self, value: float) -> bool:
        """Whether the value lies within the bounds."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


_WHOLE = "whole path to float32, against the published functions"
_TWO = "speed_of_two_workers_to_two_independent_processes"
GOALS = (
    Goal("ResNet18: trainer to bare PyTorch", "step", ("resnet18", "trainer", "to bare"), high=1.03),
    Goal("narrow ResNet8: the same", "step", ("resnet8-small", "trainer", "to bare"), high=1.03),
    Goal(
        "4-bit student with soft labels, to bare",
        "step",
        ("resnet18", "+ 4-bit + soft", "to bare"),
        high=1.75,
    ),
    Goal("4-bit student with RKD, to bare", "step", ("resnet18", "+ 4-bit + rkd", "to bare"), high=1.75),
    Goal("4-bit student with II-KD, to bare", "step", ("resnet18", "+ 4-bit + ii-kd", "to bare"), high=2.3),
    Goal("the same, narrow ResNet8", "step", ("resnet8-small", "+ 4-bit + ii-kd", "to bare"), high=3.0),
    Goal("two threads to two processes, ResNet18", "step", ("two threads", "resnet18", "share"), low=0.85),
    Goal("the same, narrow ResNet8", "step", ("two threads", "resnet8-small", "share"), low=0.85),
    Goal(
        "operations, 32x32, to lean Pillow",
        "augment",
        ("ops 32x32, against lean Pillow", "rival / ours"),
        low=20,
    ),
    Goal("operations, 224x224", "augment", ("ops 224x224, against lean Pillow", "rival / ours"), low=3),
    Goal("whole path, to the published functions", "augment", (_WHOLE, "rival / ours"), low=60),
    Goal(
        "augmenting: two threads to two processes", "augment", ("two threads", "threads / processes"), low=0.9
    ),
    Goal("`import rolewise.augment` adds, s", "augment", ("import", "added s"), high=1),
    Goal("KD-SVD, to its plain form", "kd", ("kd-svd", "plain / exact"), low=5),
    Goal(
        "peak memory of the KD terms, to the plain",
        "kd",
        ("peak memory of all KD terms", "ours / plain"),
        high=0.2,
    ),
    Goal("4-bit step to float step, float32", "quant", ("fp32", "quantized / float"), high=1.08),
    Goal("4-bit step to float step, bfloat16", "quant", ("bf16", "quantized / float"), high=1.3),
    Goal("search: all but its members' training", "search", ("all_but_members_share",), high=0.005),
    Goal("search: time for twice the members", "search", ("twice_the_members",), 1.9, 2.1),
    Goal("search: time for twice the epochs", "search", ("twice_the_epochs",), 1.9, 2.1),
    Goal("search: time for twice the images", "search", ("twice_the_images",), 1.9, 2.1),
    Goal("search: two workers to two processes", "search", (_TWO,), low=0.9),
    Goal("search: clock to `--dry-run`", "search", ("clock_to_estimate_2_workers",), 0.7, 1.3),
    *(
        Goal(
            f"{network} {bits}, {batch}, OpenVINO low-bit to onnxruntime float32",
            "inference",
            (f"{network} {bits}", batch, "OpenVINO low-bit", "speed"),
            low=low,
        )
        for network, bits, batch, low in (
            ("resnet18", "4/4", "batch 1", 3),
            ("resnet18", "2/2", "batch 1", 3),
            ("resnet18", "4/4", "batch 64", 4),
            ("resnet18", "2/2", "batch 64", 4),
            ("resnet20", "4/4", "batch 1", 1),
        )
    ),
)


def goals_part() -> str:
    rows = []
    for goal in GOALS:
        found = figure_at(goal.result, goal.path)
        if found is None:
            rows.append((goal.text, goal.wanted, "not measured", ""))
            continue
        value = found["median"] if isinstance(found, dict) else found
        rows.append((goal.text, goal.wanted, number(found), "yes" if goal.holds(value) else "**no**"))
    return "\n".join(
        ["## At a glance\n", "Medians, with the smallest and the largest of the rounds.\n",
         table(("", "to reach", "measured", "holds"), rows)]
    )  # fmt: skip


def step_part(result: dict[str, Any]) -> str:
    parts = ["## A training step taken apart\n", origin(result)]
    parts.append(
        "CPU time of a step (batch 128, one thread, every thread of the process counted) against bare PyTorch's\n"
        "forward, backward and update. `trainer` adds the loop, metrics, feeding and augmentation under a full\n"
        "policy; KD rows hold the teacher's forward too, and those of KD-SVD, MHGD and II-KD two backward passes,\n"
        "which the clip of the KD gradient needs: their floor is 2.0.\n"
    )
    for name in NETWORKS:
        sides, targets = result["figures"][name], STEP_TARGETS[name]
        rows = [
            (label, number(side["ms"]), number(side["to bare"]), targets.get(label, ""))
            for label, side in sides.items()
        ]
        title = f"**{name}**, {result['figures']['precision']}\n"
        parts += [title, table(("", "ms", "to bare", "to reach"), rows)]
    parts.append("![The step of ResNet18 taken apart](step.svg)\n")
    if "two threads" in result["figures"]:
        threads = result["figures"]["two threads"]
        parts.append("Two threads against two processes of one thread each, steps by the clock:\n")
        parts.append(grid(threads, threads, {key: key for key in threads["resnet18"]}))
    return "\n".join(parts)


def floors_part(result: dict[str, Any]) -> str:
    parts = ["## How far from the floor\n", origin(result)]
    parts.append(
        "The floor of a step: its floating-point operations, counted by PyTorch, at the rate of this core's largest\n"
        "matrix product, measured in the same run. Feeding: images per second of CPU time with policy, crop, flip and\n"
        "normalization. Evaluation: 4 bits, weights quantized once, against quantizing them with every batch of 128.\n"
    )
    for name in NETWORKS:
        rows = [
            (f"{part}: {key}", number(value))
            for part, figures in result["figures"][name].items()
            for key, value in figures.items()
        ]
        parts += [f"**{name}**\n", table(("", ""), rows)]
    return "\n".join(parts)


def augment_part(result: dict[str, Any]) -> str:
    figures = result["figures"]
    sides = {"rival us/image": "rival, us/image", "ours us/image": "ours, us/image", "rival / ours": "ratio"}
    raced = [name for name, found in figures.items() if "rival / ours" in found]
    rest = [
        (f"{name}: {key}", number(value))
        for name, found in figures.items()
        if name not in raced
        for key, value in found.items()
    ]
    return "\n".join(
        ["## Augmentation\n", origin(result),
         "One thread, CPU time; the last policy of PBA's published CIFAR-10 schedule where a row says nothing else.\n",
         grid(figures, raced, sides), table(("", ""), rest)]
    )  # fmt: skip


def kd_part(result: dict[str, Any]) -> str:
    svd = result["figures"]["kd-svd"]
    rows = [
        (form, number(svd[f"ms {form}"]), number(svd[f"plain / {form}"]) if f"plain / {form}" in svd else "1")
        for form in ("plain", "eigh", "products", "exact")
    ]
    return "\n".join(
        ["## Distillation losses\n", origin(result),
         "KD-SVD, forward and backward, ResNet18 shapes. `plain` is the loss written with `torch.linalg.svd` and\n"
         "the broadcast RBF term; `exact` is the default on a CPU, `products`, matrix products alone, on a GPU.\n",
         table(("form", "ms", "plain to it"), rows),
         "The cost of each loss is in [losses.md](losses.md).\n"]
    )  # fmt: skip


def quant_part(result: dict[str, Any]) -> str:
    figures = result["figures"]
    rows = [
        (precision, *(number(figures[precision]["ms"][side]) for side in ("float", "quantized", "plain")),
         number(figures[precision]["quantized / float"]), number(figures[precision]["plain / float"]))
        for precision in ("fp32", "bf16")
    ]  # fmt: skip
    layers = [(name, number(value)) for name, value in figures["layers, ms"].items()]
    return "\n".join(
        ["## Quantization\n", origin(result),
         "What 4 bits add to a ResNet18 step; `plain` composes the same from PyTorch's own functions.\n",
         table(("", "float, ms", "ours, ms", "plain, ms", "ours to float", "plain to float"), rows),
         "Forward and backward of the quantizers alone: all weights of the network, one activation.\n",
         table(("", "ms"), layers)]
    )  # fmt: skip


def search_part(result: dict[str, Any]) -> str:
    figures = dict(result["figures"])
    size = figures.pop("size")
    rows = [(name.replace("_", " "), number(value)) for name, value in figures.items()]
    sentence = (
        f"{size['members']} members of {size['network']}, {size['epochs']} epochs of {size['images']} images of "
        f"{size['data']}, {size['validation']} to score on.\n"
    )
    return "\n".join(["## The search\n", origin(result), sentence, table(("", ""), rows)])


def draw_step(result: dict[str, Any]) -> None:
    sides = result["figures"]["resnet18"]
    labels = list(sides)[::-1]
    values = [sides[label]["to bare"]["median"] for label in labels]
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    axes.barh(
        labels, values, color=["#7a8ba3" if label == "bare" else "#2f5d8a" for label in labels], height=0.62
    )
    for place, value in enumerate(values):
        axes.text(value + 0.03, place, f"{value:.2f}", va="center", fontsize=9)
    axes.axvline(1, color="#999999", linewidth=0.8)
    axes.set_xlim(0, max(values) * 1.12)
    axes.set_xlabel("CPU time of a step, ResNet18, bare PyTorch = 1")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.savefig(ROOT / "docs" / "step.svg", metadata={"Date": None}, facecolor="white")


PARTS = {
    "step": step_part,
    "floors": floors_part,
    "augment": augment_part,
    "kd": kd_part,
    "quant": quant_part,
    "search": search_part,
    "inference": inference_part,
    "gpu": gpu_part,
    "gpu-checks": checks_part,
}
DRAWINGS = {"step": draw_step, "inference": draw_inference}


def main() -> None:
    parts = [goals_part()]
    for name, part in PARTS.items():
        if result := load(name):
            parts.append(part(result))
            if name in DRAWINGS:
                DRAWINGS[name](result)
    page = PAGE.read_text("utf-8")
    before = page[: page.index(BEGIN) + len(BEGIN)]
    after = page[page.index(END) :] if END in page else f"{END}\n"
    PAGE.write_text(f"{before}\n\n" + "\n".join(parts) + f"\n{after}", "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
