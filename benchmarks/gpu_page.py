"""The part of docs/performance.md on a GPU."""

import textwrap
from collections.abc import Mapping
from typing import Any

from page_text import load, number, origin, table

KINDS = ("plain", "4-bit", "4-bit + soft", "4-bit + rkd", "4-bit + ii-kd")
LANES = {
    "plain": "ResNet18, float",
    "4-bit + ii-kd": "ResNet18, 4-bit + ii-kd",
    "small network": "resnet8-small, float",
}
# The paper's recipe for ResNet18 on CIFAR-100: members, epochs of a search and its boundaries, images, epochs, images.
MEMBERS, SEARCH_EPOCHS, BOUNDARIES, SEARCH_IMAGES, VALIDATION = 16, 200, 67, 4_000, 36_000
EPOCHS, IMAGES = 200, 50_000


def gpu_part(result: dict[str, Any]) -> str:
    figures = result["figures"]
    name = result["environment"]["hardware"]["gpus"][0]
    parts = ["## On a GPU: measured\n", origin(result)]
    parts.append(
        prose(
            f"""One {name}, {result["environment"]["hardware"]["cores"]} cores of its host, bf16, batch 128.
            ResNet18 with 100 classes unless another network is named; random images that lie on the device unless
            said otherwise. `eager` launches each kernel from Python; `recorded` repeats a CUDA graph, as trainings and
            searches do. The sides of a row take turns, in three rounds; a plain step had one."""
        )
    )
    rows = []
    for kind in KINDS:
        found = figures[f"throughput: {kind}"]
        rows.append(
            (
                kind,
                number(found["eager"]["ms a step"]),
                number(found["graphed"]["ms a step"]),
                number(found["graphed"]["to eager"]),
                number(found["graphed"]["images/s"]["median"]),
            )
        )
    parts.append(
        table(("a step", "eager, ms", "recorded, ms", "recorded to eager, speed", "recorded, images/s"), rows)
    )
    low = "4-bit + ii-kd"
    kernels = {kind: figures["profile"][kind]["ms of them"] for kind in ("plain", "4-bit", low)}
    tried = {kind: _shown(figures[f"throughput: {kind}"]["graphed, cuDNN tried"]) for kind in ("plain", low)}
    parts.append(
        prose(
            f"""The kernels of a plain step take {kernels["plain"]} ms, of a 4-bit one {kernels["4-bit"]} ms and
            with II-KD {kernels[low]} ms (profiled, which itself costs a little): a recorded step is its kernels, one
            after the other. Their tables are in [benchmarks/results/profiles](../benchmarks/results/profiles).
            Letting cuDNN try its algorithms changes nothing (plain {tried["plain"]} ms, II-KD {tried[low]} ms)."""
        )
    )
    parts.append(_lanes(figures))
    parts.append(_rest(figures))
    parts.append(_expected(result))
    return "\n".join(parts)


def prose(text: str) -> str:
    """A paragraph, in lines of the page's width."""
    return textwrap.fill(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False) + "\n"


def _shown(found: Mapping[str, Any]) -> str:
    return f"{found['ms a step']['median']:.4g}"


def _lanes(figures: Mapping[str, Any]) -> str:
    rows = []
    for unit, title in LANES.items():
        found = figures[f"lanes: {unit}"]
        for lanes in (key for key in found if key.endswith(" lanes")):
            rows.append(
                (
                    title,
                    lanes.split()[0],
                    number(found[lanes]["images/s"]),
                    number(found[lanes]["to one lane"]),
                )
            )
    text = prose(
        """Epochs of eight members of a search, fed with images that are augmented on the host, their states swapped
        through recorded steps:"""
    )
    return f"{text}\n" + table(("", "lanes", "images/s, all members", "to one lane"), rows)


def _rest(figures: Mapping[str, Any]) -> str:
    states, compiled = figures["states"], figures["compiled"]
    rows = [
        (f"evaluation in 4 bits, {key}, images/s", number(figures["evaluation"][key]["images/s"]))
        for key in ("batch 1000", "batch 4000")
    ]
    rows += [
        (
            f"{key.replace('1 threads', '1 thread')} of the host, full policy, images/s",
            number(found["images/s"]),
        )
        for key, found in figures["feeding"].items()
        if key.startswith("augmentation alone")
    ]
    rows += [
        (f"{key} ({states['MB']} MB, {states['tensors']} tensors), ms", number(states[key]["ms"]))
        for key in ("state out", "state in", "to bytes")
    ]
    rows += [
        (f"eager II-KD steps, {key.replace('1 processes', '1 process')}, images/s", number(found["images/s"]))
        for key, found in figures["processes"].items()
        if key.endswith("processes")
    ]
    rows += [
        (f"`compile` of a {kind} step to an eager one, speed", number(compiled[kind]["compiled"]["to eager"]))
        for kind in ("plain", "4-bit")
    ]
    return table(("", "measured"), rows)


def _expected(result: Mapping[str, Any]) -> str:
    rows = []
    for row in result["expected"]:
        low, high = row["expected"]
        within = (
            "yes" if low <= row["measured"] <= high or (low == high and row["measured"] >= low) else "**no**"
        )
        rows.append(
            (
                row["what"],
                f"{low:,}" if low == high else f"{low:,} to {high:,}",
                number(row["measured"]),
                within,
            )
        )
    soft, iikd = (minutes(result["figures"], kind) for kind in ("4-bit + soft", "4-bit + ii-kd"))
    before = prose(
        "What had been expected, written down before anything was measured; a single number is reached by a larger one:"
    )
    after = prose(
        f"""The expectations came from a model of each kernel: the largest of its launch (2.2 us within a recorded
        step), its bytes at 2.6 TB/s and its arithmetic at 360 TFLOP/s (bf16) or 30 TFLOP/s (float32). The whole of the
        paper's recipe (ResNet18, CIFAR-100, 4 bits: two searches of 16 members with 36,000 images to score on, two
        trainings of 200 epochs) takes {soft:.0f} minutes with soft labels and {iikd:.0f} with II-KD at the rates
        above, one member after the other; that sum was not run."""
    )
    return f"{before}\n" + table(("", "expected", "measured", "reached"), rows) + f"\n{after}"


def minutes(figures: Mapping[str, Any], kind: str) -> float:
    """Minutes of the paper's recipe at the measured rates, members one after the other."""

    def rate(name: str) -> float:
        return float(figures[f"throughput: {name}"]["graphed"]["images/s"]["median"])

    trained = MEMBERS * SEARCH_EPOCHS * SEARCH_IMAGES + EPOCHS * IMAGES
    scored = 2 * MEMBERS * BOUNDARIES * VALIDATION
    evaluated = figures["evaluation"]["batch 4000"]["images/s"]["median"]
    return (trained / rate("plain") + trained / rate(kind) + scored / evaluated) / 60


def checks_part(result: dict[str, Any]) -> str:
    figures = result["figures"]
    quantizers = {key: found for key, found in figures["check: quantizers"].items() if "bits" in key}
    losses = {key: found for key, found in figures["check: losses"].items() if isinstance(found, dict)}
    graphs = {
        key: found
        for key, found in figures["check: graph against eager"].items()
        if isinstance(found, dict) and "graph to eager" in found
    }
    plain = figures["check: float32 against the CPU"]["plain"]
    compiled = ((load("gpu") or {}).get("figures") or {})["check: compiled against eager"]["plain"]
    rows = [
        (
            f"{len(quantizers)} quantizers and types of numbers on equal inputs: values that differ from the CPU's",
            str(sum(found["values that differ"] for found in quantizers.values())),
        ),
        (
            f"{len(losses)} losses on equal inputs: largest relative difference of a value from the CPU's",
            f"{max(found['value'] for found in losses.values()):.1e}",
        ),
        (
            "the same: largest angle of a gradient to the CPU's, 1 - cosine",
            f"{max(1 - found['cosine'] for found in losses.values()):.1e}",
        ),
        (
            "float ResNet18 in float32, gradient of a batch: 1 - cosine to the CPU's",
            f"{1 - plain['cosine']:.1e}",
        ),
        ("the same, compiled to eager", f"{1 - compiled['cosine']:.1e}"),
        (
            f"8 steps in {len(graphs)} forms, recorded against eager: largest relative difference of a tensor",
            f"{max(found['graph to eager'] for found in graphs.values()):g}",
        ),
        (
            "the same, eager against itself (with and without deterministic algorithms)",
            f"{max(found['eager to itself'] for found in graphs.values()):g}",
        ),
    ]
    text = prose(
        """A low-bit network's whole gradient is not in the table: differences of 1e-7 move activations to other levels,
        layer after layer, so that two right libraries have a cosine of 0.15 there. Its layers are compared one by
        one."""
    )
    return "\n".join(["**Whether it computes the same**\n", origin(result), table(("", "found"), rows), text])
