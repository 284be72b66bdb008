"""Bit ladders: a network at more bits than it is meant for, and down from there; which levels its weights take."""

from collections.abc import Mapping

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.quant.activations import activation_bits, quantized_activations, set_activation_bits
from rolewise.quant.layers import quantized_weights
from rolewise.quant.method import METHODS
from rolewise.quant.model import quantization


def lift_bits(model: nn.Module, least: int, *, rescale: bool = True) -> None:
    """Gives each quantizer at least `least` bits; those meant for more keep theirs, float layers stay float.

    What a method learned goes along: an LSQ step keeps its ratio to the step that LSQ would start with at that many
    bits, a PACT bound stays. Our choice: published ladders restart the quantizers, or have none that learn.

    Args:
        model: a quantized network; `quantization(model)` states the bits that it is meant for.
        least: 1 to 8; 1 gives each quantizer the bits that it is meant for.
        rescale: True fits what a method learned to the new bits; False where a state of such bits is loaded next.

    Raises:
        InputError: a network that is not quantized.
    """
    description = quantization(model)
    if description is None:
        raise InputError("The network is not quantized, so it has no bits to lift. Call quantize() first.")
    weights: Mapping[str, int] = description["weights"]
    for name, layer in quantized_weights(model).items():
        bits = max(least, weights[name])
        if layer.grid is None and bits != layer.weight_bits:
            if rescale:
                METHODS[layer.weight_method].weights.rescale(layer, layer.weight_bits, bits)
            layer.weight_bits = bits
    activations: Mapping[str, int] = description["activations"]
    for name, module in quantized_activations(model).items():
        before, method = activation_bits(module)
        bits = max(least, activations[name])
        if bits != before:
            if rescale:
                METHODS[method].activations.rescale(module, before, bits)
            set_activation_bits(module, bits)


def quantizer_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What the quantizers of a network learn beside the weights, by name: LSQ's steps, PACT's bounds."""
    layers, points = quantized_weights(model), quantized_activations(model)
    names = {f"{name}.{one}" for name, layer in layers.items() for one in layer.learned}
    for name, module in points.items():
        names |= {f"{name}.{one}" for one in METHODS[activation_bits(module)[1]].activations.names}
    return {name: parameter for name, parameter in model.named_parameters() if name in names}


def weight_codes(model: nn.Module) -> dict[str, UInt8[Tensor, "..."]]:
    """The level, 0 to 2^bits - 1, that each quantized weight takes now, by layer; on the CPU."""
    with torch.no_grad():
        return {
            name: layer.weight_grid().encode(layer.quantized_weight()).cpu()
            for name, layer in quantized_weights(model).items()
        }


def changed_share(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """The share of weights whose level differs, over all quantized layers; 0.0 where there are none."""
    changed = sum(int((codes != after[name]).sum()) for name, codes in before.items())
    total = sum(codes.numel() for codes in before.values())
    return changed / total if total else 0.0
