"""What a network costs: bytes, multiply-accumulates by bit-width, latency under onnxruntime on the machine at hand."""

import copy
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rolewise.pretrained.files import save_network
from rolewise.pretrained.formats import export
from rolewise.pretrained.onnx_network import onnx_network
from rolewise.quant import quantization, quantized_layers, remove_quantizers
from rolewise.quant.dorefa import FULL
from rolewise.quant.layers import quantized_weights
from rolewise.runs import environment


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer.

    Args:
        name: of the module.
        macs: multiply-accumulates for one image.
        weights: number of weights.
        weight_bits: of its weights, 32 if they are float.
        input_bits: of what it reads, 32 if that is float.
    """

    name: str
    macs: int
    weights: int
    weight_bits: int
    input_bits: int


def layer_costs(model: nn.Module, image_size: tuple[int, int] = (32, 32)) -> list[LayerCost]:
    """The cost of each convolution and linear layer, in the order in which they run.

    The bit-width of a layer's input is measured: one forward pass of two random images shows how many values it takes.
    So it is right through pooling and shuffling, which keep levels, and through sums and averages, which do not.
    """
    low = copy.deepcopy(model).cpu().float().eval()
    widths = sorted(
        {layer.activations for layer in quantized_layers(low).values() if layer.activations is not None}
    )
    found: list[LayerCost] = []
    names = {module: name for name, module in low.named_modules()}

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        distinct = torch.unique(inputs[0]).numel() if widths else 0
        input_bits = next((bits for bits in widths if distinct <= 2**bits), FULL)
        layer = quantized_weights(low).get(names[module])
        found.append(
            LayerCost(
                name=names[module],
                macs=output[0].numel() * weight[0].numel(),
                weights=weight.numel(),
                weight_bits=FULL if layer is None else layer.weight_bits,
                input_bits=input_bits,
            )
        )

    layers = [module for module in low.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [module.register_forward_hook(measure) for module in layers]
    images = torch.randn(2, 3, *image_size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            low(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def macs_by_bits(costs: list[LayerCost]) -> dict[tuple[int, int], int]:
    """Multiply-accumulates for one image by (weight bits, input bits)."""
    found: dict[tuple[int, int], int] = {}
    for cost in costs:
        key = (cost.weight_bits, cost.input_bits)
        found[key] = found.get(key, 0) + cost.macs
    return dict(sorted(found.items()))


def latency(
    path: Path, batch: int, image_size: tuple[int, int], *, threads: int = 1, seconds: float = 1.0
) -> float:
    """Median seconds of one batch under onnxruntime on this machine's CPU, over `seconds` or at least five runs."""
    network = onnx_network(path, threads=threads)
    images = torch.randn(batch, 3, *image_size, generator=torch.Generator().manual_seed(0))
    network(images)
    taken: list[float] = []
    begin = time.perf_counter()
    while len(taken) < 5 or (time.perf_counter() - begin < seconds and len(taken) < 1000):
        start = time.perf_counter()
        network(images)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def cost_report(
    model: nn.Module,
    *,
    image_size: tuple[int, int] = (32, 32),
    batches: tuple[int, ...] = (1, 128),
    threads: int = 1,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """Bytes, multiply-accumulates and latency of a network and of its float form, as JSON.

    Args:
        model: a network, quantized or not.
        image_size: height and width.
        batches: batch sizes whose latency is measured.
        threads: of onnxruntime.
        seconds: how long each latency is measured.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    plain = copy.deepcopy(model)
    if quantization(model) is not None:
        remove_quantizers(plain)
    costs = layer_costs(model, image_size)
    forms = {"float32": plain} | ({"quantized": model} if quantized_weights(model) else {})
    files: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for form, network in forms.items():
            saved = save_network(network, Path(folder) / f"{form}.safetensors", packed=form == "quantized")
            onnx = export(network, Path(folder) / f"{form}.onnx", image_size=image_size)
            files[form] = {
                "safetensors_bytes": saved.stat().st_size,
                "onnx_bytes": onnx.stat().st_size,
                "latency_ms": {
                    str(batch): 1e3 * latency(onnx, batch, image_size, threads=threads, seconds=seconds)
                    for batch in batches
                },
            }
    import onnxruntime

    return {
        "image_size": list(image_size),
        "files": files,
        "macs": [
            {"weight_bits": weight, "input_bits": read, "macs": macs}
            for (weight, read), macs in macs_by_bits(costs).items()
        ],
        "weights": _weights(costs),
        "threads": threads,
        "onnxruntime": onnxruntime.__version__,
        "hardware": environment().get("hardware", {}),
    }


def _weights(costs: list[LayerCost]) -> dict[str, Any]:
    """Bytes of the quantized layers' weights, as float32 and packed."""
    low = [cost for cost in costs if cost.weight_bits != FULL]
    return {
        "quantized": sum(cost.weights for cost in low),
        "float": sum(cost.weights for cost in costs) - sum(cost.weights for cost in low),
        "float32_bytes": 4 * sum(cost.weights for cost in low),
        "packed_bytes": sum((cost.weights * cost.weight_bits + 7) // 8 for cost in low),
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The report as text for a terminal."""
    lines = [
        f"{'':12}{'.safetensors':>16}{'.onnx':>14}" + "".join(f"{f'batch {b}':>13}" for b in _batches(report))
    ]
    for form, entry in report["files"].items():
        times = "".join(f"{value:>10.2f} ms" for value in entry["latency_ms"].values())
        lines.append(f"{form:12}{entry['safetensors_bytes']:>14,} B{entry['onnx_bytes']:>12,} B{times}")
    lines += ["", "multiply-accumulates for one image"]
    total = sum(entry["macs"] for entry in report["macs"])
    for entry in report["macs"]:
        kind = f"{_width(entry['weight_bits'])} weights x {_width(entry['input_bits'])} activations"
        lines.append(f"  {kind:42}{entry['macs']:>16,}  {100 * entry['macs'] / total:5.1f} %")
    cpu = report["hardware"].get("cpu", "this machine's CPU")
    threads = f"{report['threads']} thread{'s' if report['threads'] > 1 else ''}"
    lines += [
        "",
        f"Latency: onnxruntime {report['onnxruntime']} on {cpu}, {threads}, "
        f"{report['image_size'][0]}x{report['image_size'][1]} pixels, median.",
        "onnxruntime decodes low-bit weights to float32 when it loads the file, and computes in float32: the file is",
        "small, the arithmetic is not low-bit. The counts by bit-width say what an integer engine would compute.",
    ]
    return "\n".join(lines)


def _batches(report: Mapping[str, Any]) -> list[str]:
    return list(next(iter(report["files"].values()))["latency_ms"])


def _width(bits: int) -> str:
    return "float32" if bits == FULL else f"{bits}-bit"
