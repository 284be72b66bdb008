"""Modules whose outputs are quantized: a ReLU or identity under another class, any other module with a hook."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.quant.layers import beneath
from rolewise.quant.method import METHODS
from rolewise.quant.tracing import composed
from rolewise.quant.watch import note_use


class QuantizedActivation(nn.Module):
    """Replaces an `nn.ReLU` or `nn.Identity`; quantizing also applies the ReLU, for the lowest level is 0."""

    act_bits: int
    act_method: str
    float_class: type[nn.Module]  # what it was

    def forward(self, input: Tensor) -> Tensor:
        return _quantized(self, input, self.act_method, self.act_bits, bool(getattr(self, "inplace", False)))

    def reset_quantizer(self) -> None:
        """Sets what the quantizer learned to its start."""
        METHODS[self.act_method].activations.reset(self, self.act_bits)

    def reset_parameters(self) -> None:
        """The same, under the name by which PyTorch's layers are reinitialized."""
        self.reset_quantizer()

    def extra_repr(self) -> str:
        return f"act_bits={self.act_bits}"


class OutputQuantizer:
    """The forward hook of act points that are neither ReLU nor identity; it can be pickled.

    Args:
        bits: 1 to 8.
        method: a key of `METHODS`.
    """

    def __init__(self, bits: int, method: str) -> None:
        self.bits, self.method = bits, method

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Tensor:
        """The quantized output.

        Raises:
            InputError: an output that is not one tensor.
        """
        if not isinstance(output, Tensor):
            raise InputError(
                f"The act point {type(module).__name__} gave a {type(output).__name__}; it must give one tensor."
            )
        in_place = bool(getattr(module, "inplace", False)) and bool(inputs) and output is inputs[0]
        return _quantized(module, output, self.method, self.bits, in_place)


def _quantized(module: nn.Module, x: Tensor, method: str, bits: int, in_place: bool) -> Tensor:
    """The quantized `x`, written into `x` where the float module writes in place: others may read `x` later."""
    if not composed():
        note_use(module)
    quantizer = METHODS[method].activations
    if not in_place:
        return quantizer.quantize(module, x, bits)
    kept = x.clone() if torch.is_grad_enabled() and x.requires_grad else x  # what the backward pass needs
    return x.copy_(quantizer.quantize(module, kept, bits))


_REPLACED = (nn.ReLU, nn.Identity)


def check_activation(module: nn.Module, name: str, method: str) -> None:
    """Checks that the output of a module can be quantized.

    Raises:
        InputError: the module has parameters of the names that the quantizer would add.
    """
    taken = [one for one in METHODS[method].activations.names if hasattr(module, one)]
    if taken:
        raise InputError(
            f'The act point "{name}" has an attribute `{taken[0]}` of its own, which method="{method}" needs '
            f"for what it learns. Rename it, or quantize a module before or behind it."
        )


def swap_activation(module: nn.Module, bits: int, method: str, like: Tensor) -> None:
    """Makes a module quantize its output: a ReLU or identity becomes a quantizer, others get a hook.

    Args:
        module: an act point.
        bits: 1 to 8.
        method: a key of `METHODS`.
        like: has the device and type of the parameters that the method may add.
    """
    METHODS[method].activations.prepare(module, bits, like)
    if type(module) in _REPLACED:
        module.float_class = type(module)  # type: ignore[assignment]
        module.__class__ = QuantizedActivation
        module.act_bits, module.act_method = bits, method  # type: ignore[assignment]
        return
    module.register_forward_hook(OutputQuantizer(bits, method))
    module.reset_quantizer = partial(_reset, module)  # type: ignore[assignment]
    module.reset_parameters = partial(_reset_with_module, module)  # type: ignore[assignment]
    module.extra_repr = partial(_shown, module)  # type: ignore[method-assign]


def _reset(module: nn.Module) -> None:
    bits, method = activation_bits(module)
    METHODS[method].activations.reset(module, bits)


def _reset_with_module(module: nn.Module) -> None:
    own = getattr(type(module), "reset_parameters", None)
    if callable(own):
        own(module)
    _reset(module)


def _shown(module: nn.Module) -> str:
    """What `print(network)` says of a module that a hook quantizes."""
    own = type(module).extra_repr(module)
    return ", ".join(filter(None, (own, f"act_bits={activation_bits(module)[0]}")))


def unswap_activation(module: nn.Module) -> None:
    """Makes the module give its float output again."""
    _bits, method = activation_bits(module)
    for name in METHODS[method].activations.names:
        delattr(module, name)
    if isinstance(module, QuantizedActivation):
        module.__class__ = module.float_class  # type: ignore[assignment]
        for name in ("act_bits", "act_method", "float_class"):
            delattr(module, name)
        return
    hooks = module._forward_hooks
    for key in [key for key, hook in hooks.items() if isinstance(hook, OutputQuantizer)]:
        del hooks[key]
    for name in ("reset_quantizer", "reset_parameters", "extra_repr"):
        module.__dict__.pop(name, None)


def activation_bits(module: nn.Module) -> tuple[int, str]:
    """Bits and method of a module that quantizes its output; its own attributes of any name are left alone.

    Raises:
        InputError: its output is not quantized.
    """
    found = _state(module)
    if found is None:
        raise InputError(f"{type(module).__name__} is no act point of a quantized network.")
    return found


def set_activation_bits(module: nn.Module, bits: int) -> None:
    """Gives a module that quantizes its output other bits; what the method learned stays.

    Raises:
        InputError: its output is not quantized.
    """
    activation_bits(module)
    if isinstance(module, QuantizedActivation):
        module.act_bits = bits
    for hook in module._forward_hooks.values():
        if isinstance(hook, OutputQuantizer):
            hook.bits = bits


def _state(module: nn.Module) -> tuple[int, str] | None:
    if isinstance(module, QuantizedActivation):
        return module.act_bits, module.act_method
    for hook in module._forward_hooks.values():
        if isinstance(hook, OutputQuantizer):
            return hook.bits, hook.method
    return None


def quantized_activations(model: nn.Module) -> dict[str, nn.Module]:
    """The modules whose outputs are quantized by name, in the network's order."""
    modules = beneath(model).named_modules()
    return {name: module for name, module in modules if _state(module) is not None}
