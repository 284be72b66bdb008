"""Draws docs/performance.md's tables and picture from the recorded results; no number there is written by hand.

python benchmarks/page.py
"""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "rolewise", "svg.fonttype": "none", "font.family": "sans-serif"})
from matplotlib import pyplot as plt  # noqa: E402 - the backend is chosen first

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- tables: written by benchmarks/page.py -->", "<!-- end of tables -->"
# What each figure was to reach.
TARGETS = {
    "trainer": "at most 1.03",
    "+ 4-bit": "at most 1.30 (bf16)",
    "+ 4-bit + soft": "at most 1.75",
    "+ 4-bit + rkd": "at most 1.75",
    "+ 4-bit + ii-kd": "at most 2.75 (floor 2.0)",
}


def load(name: str) -> dict[str, Any] | None:
    """A recorded result, None if there is none."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def number(value: Any) -> str:
    """A summary as `median (min to max)`, anything else as it is."""
    if isinstance(value, dict) and "median" in value:
        return f"{value['median']:,} ({value['min']:,} to {value['max']:,})"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def origin(result: dict[str, Any]) -> str:
    commit = str(result["environment"]["commit"])[:10]
    versions = result["environment"]["versions"]
    return f"`{result['command']}`, {result['measured']}, commit {commit}, torch {versions['torch']}.\n"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(lines) + "\n"


def step_part(result: dict[str, Any]) -> str:
    parts = ["## A training step taken apart\n", origin(result)]
    parts.append(
        "CPU time of a step (batch 128, one thread, every thread of the process counted) against bare PyTorch's "
        "forward, backward and update. `trainer` adds the loop, metrics, feeding and augmentation under a full "
        "policy; KD rows hold the teacher's forward too, and those of KD-SVD, MHGD and II-KD two backward passes, "
        "which the clip of the "
        "KD gradient needs: their floor is 2.0.\n"
    )
    for name in ("resnet18", "resnet8-small"):
        sides = result["figures"][name]
        rows = [
            (
                label,
                number(side["ms"]),
                number(side["to bare"]),
                TARGETS.get(label, "") if name == "resnet18" else "",
            )
            for label, side in sides.items()
        ]
        parts += [
            f"**{name}**, {result['figures']['precision']}\n",
            table(("", "ms", "to bare", "target"), rows),
        ]
    parts.append("![The step of ResNet18 taken apart](step.svg)\n")
    if "two threads" in result["figures"]:
        rows = [
            (name, *(number(side[key]) for key in side))
            for name, side in result["figures"]["two threads"].items()
        ]
        head = ("", *result["figures"]["two threads"]["resnet18"])
        parts += ["Two threads against two processes of one thread each:\n", table(head, rows)]
    return "\n".join(parts)


def floors_part(result: dict[str, Any]) -> str:
    parts = ["## How far from the floor\n", origin(result)]
    parts.append(
        "The floor of a step: its floating-point operations, counted by PyTorch, at the rate of this core's largest "
        "matrix product, measured in the same run. Feeding: images per second of CPU time with policy, crop, flip and "
        "normalisation. Evaluation: 4 bits, weights quantized once, against quantizing them with every batch of 128.\n"
    )
    for name in ("resnet18", "resnet8-small"):
        rows = [
            (f"{part}: {key}", number(value))
            for part, figures in result["figures"][name].items()
            for key, value in figures.items()
        ]
        parts += [f"**{name}**\n", table(("", ""), rows)]
    return "\n".join(parts)


def kd_part(result: dict[str, Any]) -> str:
    parts = ["## Distillation losses\n", origin(result)]
    svd = result["figures"]["kd-svd"]
    rows = [(key, number(value)) for key, value in svd.items() if "/" in key or key.startswith("ms")]
    parts.append(
        "KD-SVD against the same loss written plainly (`torch.linalg.svd`, broadcast RBF), ResNet18 shapes:\n"
    )
    memory = result["figures"]["peak memory of all KD terms"]
    rows.append(("peak memory of all KD terms, ours / plain", f"{memory['ours / plain']:.3f}"))
    parts += [table(("", ""), rows), "The cost of each loss stands in [losses.md](losses.md).\n"]
    return "\n".join(parts)


def plain_part(title: str, text: str, result: dict[str, Any]) -> str:
    rows: list[tuple[str, str]] = []

    def walk(prefix: str, tree: dict[str, Any]) -> None:
        for key, value in tree.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict) and "median" not in value:
                walk(f"{name}: ", value)
            else:
                rows.append((name, number(value)))

    walk("", result["figures"])
    return "\n".join([f"## {title}\n", origin(result), text + "\n" if text else "", table(("", ""), rows)])


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


def main() -> None:
    parts = []
    if step := load("step"):
        parts.append(step_part(step))
        draw_step(step)
    if floors := load("floors"):
        parts.append(floors_part(floors))
    if augment := load("augment"):
        parts.append(plain_part("Augmentation", "", augment))
    if kd := load("kd"):
        parts.append(kd_part(kd))
    if quant := load("quant"):
        text = "What quantization to 4 bits adds to a ResNet18 step; `plain` composes it from PyTorch's own functions."
        parts.append(plain_part("Quantization", text, quant))
    if search := load("search"):
        parts.append(plain_part("The search", "", search))
    page = PAGE.read_text("utf-8")
    before = page[: page.index(BEGIN) + len(BEGIN)]
    after = page[page.index(END) :] if END in page else f"{END}\n"
    PAGE.write_text(f"{before}\n\n" + "\n".join(parts) + f"\n{after}", "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
