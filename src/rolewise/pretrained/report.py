"""What a network costs: bytes, multiply-accumulates by bit-width, latency in each runtime on the machine at hand."""

import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rolewise.bits import FULL
from rolewise.errors import MissingExtraError
from rolewise.pretrained.costs import LayerCost, layer_costs, macs_by_bits, weight_bytes
from rolewise.pretrained.files import save_network
from rolewise.pretrained.latency import Run, in_turns, medians, processor_features, runtimes
from rolewise.pretrained.openvino_file import load_openvino
from rolewise.pretrained.openvino_network import OpenVinoNetwork
from rolewise.pretrained.tracing import copy_module, image_channels
from rolewise.quant import quantization, remove_quantizers
from rolewise.quant.layers import quantized_weights
from rolewise.runs import environment

_RUNTIMES = ("onnxruntime", "openvino", "torch")


def cost_report(
    model: nn.Module,
    *,
    image_size: tuple[int, int] = (32, 32),
    batches: tuple[int, ...] = (1, 64),
    threads: int = 1,
    seconds: float = 2.0,
    rounds: int = 30,
    openvino: bool | None = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Bytes, multiply-accumulates and latency of a network and of its float form, as JSON.

    Args:
        model: a network, quantized or not.
        image_size: height and width.
        batches: batch sizes whose latency is measured.
        threads: threads of each runtime.
        seconds: time for each batch size, all runtimes together.
        rounds: minimum number of turns of the runtimes, whatever time they take.
        openvino: whether OpenVINO is measured; None measures it where it is installed.
        clock: reads seconds; `time.process_time` on a machine that others load too, where there is one thread.

    Raises:
        MissingExtraError: onnx, onnxruntime or openvino is not installed.
    """
    if openvino is None:
        openvino = _has_openvino()
    plain = copy_module(model)
    if quantization(model) is not None:
        remove_quantizers(plain)
    low = model if quantized_weights(model) else None
    costs = layer_costs(model, image_size)
    with tempfile.TemporaryDirectory() as folder:
        runs, files, network = runtimes(plain, low, Path(folder), image_size, threads, with_openvino=openvino)
        image = (image_channels(model), *image_size)
        options = {"threads": threads, "seconds": seconds, "rounds": rounds, "clock": clock}
        latency, turns = _latency(runs, batches, image, **options)
        sizes = _sizes(plain, low, files, Path(folder))
    return {
        "image_size": list(image_size),
        "files": sizes,
        "latency_ms": latency,
        "turns": turns,
        "clock": clock.__name__,
        "macs": [
            {"weight_bits": weight, "input_bits": read, "macs": macs}
            for (weight, read), macs in macs_by_bits(costs).items()
        ],
        "executed": _executed(costs, network) if openvino else None,
        "weights": weight_bytes(costs),
        "threads": threads,
        "versions": {name: metadata.version(name) for name in _RUNTIMES if openvino or name != "openvino"},
        "features": processor_features(),
        "hardware": environment().get("hardware", {}),
    }


def _has_openvino() -> bool:
    try:
        load_openvino()
    except MissingExtraError:
        return False
    return True


def _latency(
    runs: Mapping[str, Run], batches: tuple[int, ...], image: tuple[int, int, int], **options: Any
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Median milliseconds of each runtime at each batch size, and the turns of each size.

    Args:
        runs: the runtimes.
        batches: batch sizes.
        image: channels, height and width.
        options: those of `in_turns`.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in runs}
    turns = {}
    for batch in batches:
        images = torch.randn(batch, *image, generator=torch.Generator().manual_seed(0))
        taken = in_turns(runs, images, **options)
        turns[str(batch)] = len(next(iter(taken.values())))
        for name, value in medians(taken).items():
            found[name][str(batch)] = value
    return found, turns


def _sizes(
    plain: nn.Module, low: nn.Module | None, files: Mapping[str, Path], folder: Path
) -> dict[str, dict[str, int]]:
    """Bytes of each form of file."""
    found: dict[str, dict[str, int]] = {}
    for form, network in (("float32", plain), ("low-bit", low)):
        if network is None:
            continue
        saved = save_network(network, folder / f"saved-{form}.safetensors", packed=form == "low-bit")
        found[form] = {
            "safetensors_bytes": saved.stat().st_size,
            "onnx_bytes": files[f"onnxruntime {form}"].stat().st_size,
        }
        ir = files.get(f"OpenVINO {form}")
        if ir is not None:
            found[form]["openvino_bytes"] = ir.stat().st_size + ir.with_suffix(".bin").stat().st_size
    return found


def _executed(costs: list[LayerCost], network: OpenVinoNetwork | None) -> dict[str, Any]:
    """Multiply-accumulates that OpenVINO executes in 8-bit integers and in float32, and quantized layers in float."""
    if network is None:
        return {"int8_macs": 0, "float_macs": sum(cost.macs for cost in costs), "float_layers": []}
    integer = {layer.name for layer in network.layers if layer.integer}
    whole = sum(cost.macs for cost in costs if cost.name in integer)
    slow = [cost for cost in costs if cost.weight_bits != FULL and cost.name not in integer]
    return {
        "int8_macs": whole,
        "float_macs": sum(cost.macs for cost in costs) - whole,
        "float_layers": [
            {"name": cost.name, "reason": _reason(cost)}
            for cost in {cost.name: cost for cost in slow}.values()
        ],
    }


def _reason(cost: LayerCost) -> str:
    """Why a quantized layer runs in float, as far as its bit-widths explain it."""
    if cost.input_bits == FULL:
        return "it reads float values: no act point lies before it"
    if cost.weight_bits == 8:
        return "its 8-bit weights (2 c - 255) / 255 do not fit int8"
    return "the runtime chose so"


def format_report(report: Mapping[str, Any]) -> str:
    """The report as text for a terminal."""
    columns = {"safetensors_bytes": ".safetensors", "onnx_bytes": ".onnx", "openvino_bytes": "OpenVINO"}
    shown = next(iter(report["files"].values()))
    lines = [f"{'bytes':12}" + "".join(f"{columns[key]:>16}" for key in shown)]
    for form, entry in report["files"].items():
        lines.append(f"{form:12}" + "".join(f"{value:>14,} B" for value in entry.values()))
    batches = list(next(iter(report["latency_ms"].values())))
    lines += ["", f"{'milliseconds':22}" + "".join(f"{f'batch {batch}':>14}" for batch in batches)]
    base = report["latency_ms"]["onnxruntime float32"]
    for name, times in report["latency_ms"].items():
        values = "".join(f"{value:>11.3f} ms" for value in times.values())
        faster = ", ".join(f"{base[batch] / value:.1f}x" for batch, value in times.items())
        lines.append(f"{name:22}{values}   {faster}")
    lines += ["", "multiply-accumulates for one image"]
    total = sum(entry["macs"] for entry in report["macs"])
    for entry in report["macs"]:
        kind = f"{_width(entry['weight_bits'])} weights x {_width(entry['input_bits'])} activations"
        lines.append(f"  {kind:42}{entry['macs']:>16,}  {100 * entry['macs'] / total:5.1f} %")
    return "\n".join([*lines, *_execution(report["executed"], total), *_origin(report)])


def _execution(executed: Mapping[str, Any] | None, total: int) -> list[str]:
    if executed is None:
        return []
    share = 100 * executed["int8_macs"] / total
    lines = ["", f"OpenVINO executes {share:.1f} % of them in 8-bit integers, the others in float32."]
    slow = executed["float_layers"]
    if slow:
        lines.append(f"Quantized layers in float32 ({len(slow)}):")
        lines += [f"  {entry['name']}: {entry['reason']}" for entry in slow[:20]]
        lines += [f"  ... and {len(slow) - 20} more"] if len(slow) > 20 else []
    return lines


def _origin(report: Mapping[str, Any]) -> list[str]:
    cpu = report["hardware"].get("cpu", "this machine's CPU")
    features = f" ({', '.join(report['features'])})" if report["features"] else ""
    threads = f"{report['threads']} thread{'s' if report['threads'] > 1 else ''}"
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        "",
        f"Median of turns on {cpu}{features}, {threads}, {report['image_size'][0]}x{report['image_size'][1]} pixels; "
        f"the factors are speed relative to onnxruntime float32. {versions}.",
        "onnxruntime decodes low-bit weights to float32 when it loads the file and computes in float32: its file is",
        "small, its arithmetic is not low-bit.",
    ]


def _width(bits: int) -> str:
    return "float32" if bits == FULL else f"{bits}-bit"
