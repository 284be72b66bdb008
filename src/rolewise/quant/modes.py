"""A quantized network as a whole: frozen for evaluations, calibrated, decoded, or made float again."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rolewise.quant.dorefa import FULL
from rolewise.quant.layers import (
    LAYERS,
    QuantizedActivation,
    QuantizedWeight,
    quantize_output,
    quantized_activations,
    quantized_weights,
)
from rolewise.quant.methods import METHODS


@contextmanager
def frozen_weights(model: nn.Module) -> Iterator[None]:
    """Within the context each quantized weight is made once, for all forward passes without gradients.

    For evaluations: the weights must not change meanwhile. A forward pass with gradients quantizes as always,
    and a context within another one makes the weights anew.
    """
    layers = list(quantized_weights(model).values())
    frozen: list[QuantizedWeight] = []
    try:
        for layer in layers:
            layer.freeze()
            frozen.append(layer)
        yield
    finally:
        for layer in frozen:
            layer.thaw()


def calibrate(model: nn.Module, images: Tensor) -> None:
    """Sets the steps or bounds that LSQ or PACT learn for activations to fit one batch; DoReFa has none.

    Act point after act point, in one forward pass: each sees what the already quantized ones before it give. The
    pass is one of training mode, for BatchNorm's running averages are those of another network before training, or
    of none; they are put back afterwards.

    Args:
        model: a quantized network.
        images: `(n, 3, h, w)`, normalised.
    """

    def fit(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        seen = inputs[0] if output is None else output
        METHODS[str(module.act_method)].calibrate(module, seen, int(module.act_bits))  # type: ignore[arg-type]

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
    """Puts in place of each float weight the levels that it is quantized to; for inference, and final."""
    for layer in quantized_weights(model).values():
        if layer.grid is None:
            grid = layer.weight_grid()
            with torch.no_grad():
                layer.weight.copy_(layer.quantized_weight())
            for name in layer.learned:
                delattr(layer, name)
            layer.grid, layer.learned = grid, ()
    return model


def remove_quantizers(model: nn.Module) -> nn.Module:
    """Makes a quantized network a float one again: its float weights, its own activations."""
    for layer in quantized_weights(model).values():
        for name in (*layer.learned, *(("grad_count",) if layer.grad_bits != FULL else ())):
            delattr(layer, name)
        layer.__class__ = next(plain for plain, low in LAYERS.items() if isinstance(layer, low))  # type: ignore[assignment]
    for module in quantized_activations(model).values():
        for name in [
            name for name, _ in module.named_parameters(recurse=False) if name in ("act_step", "act_clip")
        ]:
            delattr(module, name)
        if isinstance(module, QuantizedActivation):
            module.__class__ = module.float_class  # type: ignore[assignment]
        else:
            hooks = module._forward_hooks
            for key in [key for key, hook in hooks.items() if hook is quantize_output]:
                del hooks[key]
        del module.act_bits
    if hasattr(model, "quantization"):
        del model.quantization
    return model
