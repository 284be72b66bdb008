"""The part of docs/performance.md on inference, and its picture."""

from collections.abc import Mapping
from typing import Any

from matplotlib import pyplot as plt
from page_text import ROOT, number, origin, table


def inference_part(result: dict[str, Any]) -> str:
    figures = dict(result["figures"])
    features, threads = ", ".join(figures.pop("features")), figures.pop("threads")
    parts = ["## Inference\n", origin(result)]
    parts.append(
        f"32x32 pixels, 100 classes, {threads} thread, processor with {features}. All runtimes take turns in\n"
        "one process; CPU time where there is one thread. Speed is relative to onnxruntime float32, turn by turn. An\n"
        "instruction of VNNI multiplies 64 pairs of bytes where one of AVX-512 multiplies 16 pairs of floats, so that\n"
        "about four times is the most that large batches can gain on such a processor; AMX, which this one does not\n"
        "have, goes further.\n"
    )
    for title, found in figures.items():
        batches = [key for key in found if key.startswith("batch")]
        rows = [
            (kind, *(cell for batch in batches for cell in _pair(found[batch][kind])))
            for kind in found[batches[0]]
        ]
        head = ("", *(cell for batch in batches for cell in (f"{batch}, ms", "speed")))
        share = 100 * found["macs in 8-bit integers"] / found["macs"]
        parts += [
            f"**{title}**: {share:.1f} % of the multiply-accumulates in 8-bit integers "
            f"({', '.join(found['kernels'])})\n",
            table(head, rows),
        ]
    parts.append("![Speed of inference relative to onnxruntime float32](inference.svg)\n")
    return "\n".join(parts)


def _pair(found: Mapping[str, Any]) -> tuple[str, str]:
    return number(found["milliseconds"]), number(found["speed"])


def draw_inference(result: dict[str, Any]) -> None:
    """Speed of OpenVINO's forms at each batch size, for each network."""
    titles = [key for key in result["figures"] if "/" in key]
    batches = [key for key in result["figures"][titles[0]] if key.startswith("batch")]
    colors = {"onnxruntime low-bit": "#c98b5a", "OpenVINO float32": "#b8c4d4", "OpenVINO low-bit": "#2f5d8a"}
    figure, panels = plt.subplots(1, len(batches), figsize=(7.2, 3.4), layout="constrained", sharey=True)
    for axes, batch in zip([panels] if len(batches) == 1 else panels, batches, strict=True):
        for row, (kind, color) in enumerate(colors.items()):
            places = [index + 0.27 * (row - 1) for index in range(len(titles))]
            values = [result["figures"][title][batch][kind]["speed"]["median"] for title in titles]
            axes.barh(places, values, height=0.25, color=color, label=kind)
            for place, value in zip(places, values, strict=True):
                axes.text(value + 0.05, place, f"{value:.1f}", va="center", fontsize=8)
        axes.set_yticks(range(len(titles)), titles)
        axes.axvline(1, color="#999999", linewidth=0.8)
        axes.set_title(batch, fontsize=10)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        axes.margins(x=0.12)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    figure.supxlabel("speed, onnxruntime float32 = 1", fontsize=9)
    figure.savefig(ROOT / "docs" / "inference.svg", metadata={"Date": None}, facecolor="white")
