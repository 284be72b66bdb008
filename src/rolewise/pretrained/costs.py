"""Multiply-accumulates of a network, by layer and by bit-width."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rolewise.bits import FULL
from rolewise.pretrained.tracing import copy_module, image_channels
from rolewise.quant.activations import activation_bits, quantized_activations
from rolewise.quant.layers import quantized_weights
from rolewise.quant.method import METHODS

FUNCTIONS = "(functions)"  # matrix products outside layers, such as those of attention
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer.

    Args:
        name: path of the module; `FUNCTIONS` for what no layer does.
        macs: multiply-accumulates for one image.
        weights: number of weights.
        weight_bits: bits of its weights, 32 if they are float.
        input_bits: bits of what it reads, 32 if that is float.
    """

    name: str
    macs: int
    weights: int
    weight_bits: int
    input_bits: int


def layer_costs(model: nn.Module, image_size: tuple[int, int] = (32, 32)) -> list[LayerCost]:
    """The cost of each layer, in the order in which they run; matrix products outside layers come last, in one entry.

    The bit-width of a layer's input is measured in one forward pass of two random images: it is that of an act point
    whose levels hold every value. So it is right through pooling and shuffling, which keep levels, and through sums
    and averages, which do not.
    """
    low = copy_module(model).cpu().float().eval()
    grids = _grids(low)
    found: list[LayerCost] = []
    names = {module: name for name, module in low.named_modules()}
    layers = quantized_weights(low)

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        # A transposed convolution multiplies each input value by its whole row of weights.
        values = inputs[0] if isinstance(module, _TRANSPOSED) else output
        layer = layers.get(names[module])
        found.append(
            LayerCost(
                name=names[module],
                macs=values[0].numel() * weight[0].numel(),
                weights=weight.numel(),
                weight_bits=FULL if layer is None else layer.weight_bits,
                input_bits=_bits(inputs[0], grids),
            )
        )

    kinds = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)
    handles = [module.register_forward_hook(measure) for module in low.modules() if isinstance(module, kinds)]
    images = torch.randn(2, image_channels(low), *image_size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            low(images)
    finally:
        for handle in handles:
            handle.remove()
    rest = counter.get_total_flops() // 2 // len(images) - sum(cost.macs for cost in found)
    return [*found, LayerCost(FUNCTIONS, rest, 0, FULL, FULL)] if rest > 0 else found


def _grids(model: nn.Module) -> list[tuple[int, float]]:
    """Bits and step of each act point, narrow ones first."""
    found = set()
    for module in quantized_activations(model).values():
        bits, method = activation_bits(module)
        found.add((bits, METHODS[method].activations.step(module, bits)))
    return sorted(found)


def _bits(values: Tensor, grids: list[tuple[int, float]]) -> int:
    for bits, step in grids:
        codes = values / step
        whole = codes.round()
        if ((codes - whole).abs() < 1e-3).all() and whole.min() >= 0 and whole.max() <= (1 << bits) - 1:
            return bits
    return FULL


def macs_by_bits(costs: list[LayerCost]) -> dict[tuple[int, int], int]:
    """Multiply-accumulates for one image by (weight bits, input bits)."""
    found: dict[tuple[int, int], int] = {}
    for cost in costs:
        key = (cost.weight_bits, cost.input_bits)
        found[key] = found.get(key, 0) + cost.macs
    return dict(sorted(found.items()))


def weight_bytes(costs: list[LayerCost]) -> dict[str, Any]:
    """Bytes of the quantized layers' weights, as float32 and packed."""
    low = [cost for cost in costs if cost.weight_bits != FULL]
    quantized = sum(cost.weights for cost in low)
    return {
        "quantized": quantized,
        "float": sum(cost.weights for cost in costs) - quantized,
        "float32_bytes": 4 * quantized,
        "packed_bytes": sum((cost.weights * cost.weight_bits + 7) // 8 for cost in low),
    }
