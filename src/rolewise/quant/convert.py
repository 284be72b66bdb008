"""A quantized network as a whole: frozen for evaluations, calibrated, decoded, or made float again."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rolewise.quant.activations import (
    QuantizedActivation,
    activation_bits,
    quantized_activations,
    unswap_activation,
)
from rolewise.quant.grid import Grid
from rolewise.quant.layers import QuantizedWeight, beneath, quantized_weights, unswap_layer
from rolewise.quant.method import METHODS
from rolewise.quant.passes import remove_passes
from rolewise.quant.watch import watching


@contextmanager
def frozen_weights(model: nn.Module) -> Iterator[None]:
    """Within the context each quantized weight is made once, for all forward passes without gradients.

    For evaluations: the weights must not change meanwhile. A forward pass with gradients quantizes as always,
    and a nested context makes the weights again. At the end a warning names the layers and act points that
    are listed as quantized and that no forward pass reached, if others were.
    """
    layers, points = quantized_weights(model), quantized_activations(model)
    frozen: list[QuantizedWeight] = []
    try:
        for layer in layers.values():
            layer.freeze()
            frozen.append(layer)
        with watching() as seen:
            yield
        _say_missed({**layers, **points}, seen)
    finally:
        for layer in frozen:
            layer.thaw()


def _say_missed(listed: Mapping[str, nn.Module], seen: set[int]) -> None:
    missed = [name for name, module in listed.items() if id(module) not in seen]
    if missed and len(missed) < len(listed):
        warnings.warn(
            f"Listed as quantized, but not used by the forward passes of this evaluation: {', '.join(missed)}. "
            "What they quantize was computed in full precision, or not at all.",
            stacklevel=4,
        )


def calibrate(model: nn.Module, images: Tensor) -> None:
    """Sets the steps or bounds that LSQ or PACT learn for activations to fit one batch; DoReFa has none.

    Act point after act point, in one forward pass: each sees what the already quantized ones before it give. The
    pass is one of training mode, for BatchNorm's running averages are those of another network before training, or
    of none; they are put back afterwards.

    Args:
        model: a quantized network.
        images: `(n, 3, h, w)`, normalized.
    """

    def fit(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        bits, method = activation_bits(module)
        METHODS[method].activations.calibrate(module, inputs[0] if output is None else output, bits)

    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    handles = []
    for module in quantized_activations(model).values():
        if isinstance(module, QuantizedActivation):
            handles.append(module.register_forward_pre_hook(fit))
        else:
            handles.append(module.register_forward_hook(fit, prepend=True))
    try:
        with torch.no_grad():
            model.train()(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])


def decode_weights(model: nn.Module) -> nn.Module:
    """Puts in place of each float weight the levels that it is quantized to; for inference, and final.

    Layers that share a weight share its levels where their grids are equal; else each gets its own.
    """
    layers = [layer for layer in quantized_weights(model).values() if layer.grid is None]
    levels: dict[tuple[int, Grid], nn.Parameter] = {}
    decoded = []
    with torch.no_grad():
        for layer in layers:  # all of them before any changes, since layers may share a weight
            weight, grid = layer.float_weight(), layer.weight_grid()
            if (id(weight), grid) not in levels:
                levels[id(weight), grid] = nn.Parameter(layer.quantized_weight(), weight.requires_grad)
            decoded.append((layer, grid, levels[id(weight), grid]))
    for layer, grid, parameter in decoded:
        layer._parameters["weight"] = parameter
        for name in layer.learned:
            delattr(layer, name)
        layer.grid, layer.learned = grid, ()
    return model


def remove_quantizers(model: nn.Module) -> nn.Module:
    """Makes a quantized network a float one again: its float weights, its own activations."""
    network = beneath(model)
    for layer in quantized_weights(network).values():
        unswap_layer(layer)
    for module in quantized_activations(network).values():
        unswap_activation(module)
    remove_passes(network)
    if hasattr(network, "quantization"):
        del network.quantization
    return model
