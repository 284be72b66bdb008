"""Layers whose weights, and modules whose outputs, are quantized: the same objects under another class.

Parameters, buffers, hooks and references to a module stay; so do the names in `state_dict`.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.quant.dorefa import FULL
from rolewise.quant.gradient import with_quantized_gradient
from rolewise.quant.grid import Grid
from rolewise.quant.methods import METHODS
from rolewise.seeds import derive_seed


class QuantizedWeight(nn.Module):
    """A layer that multiplies by its quantized weight; `weight` is and stays the float one.

    A layer that came from a packed file has a `grid`: its `weight` holds the decoded levels and is used as it
    is.
    """

    weight: Tensor
    weight_bits: int
    weight_method: str
    grid: Grid | None
    learned: tuple[str, ...]  # names of the parameters that the method adds to `weight`
    grad_bits: int
    grad_key: int
    grad_count: Tensor  # steps so far; a buffer, there only with grad_bits < 32
    _frozen: int
    _cache: dict[torch.dtype, Tensor]

    def quantized_weight(self) -> Tensor:
        """The weight that the layer multiplies by: made anew, or kept by `frozen_weights`."""
        if self.grid is not None:
            return self.weight
        if self._frozen and not torch.is_grad_enabled():
            return self._cached()
        return METHODS[self.weight_method].weight(self, self.weight_bits)

    def with_gradient(self, output: Tensor) -> Tensor:
        """The layer's output, whose gradient will be quantized if `grad_bits` says so."""
        if self.grad_bits == FULL or not (self.training and torch.is_grad_enabled()):
            return output
        counter = self.grad_count.clone()
        self.grad_count.add_(1)
        return with_quantized_gradient(output, self.grad_bits, self.grad_key, counter)

    def _cached(self) -> Tensor:
        device = self.weight.device.type
        autocast = torch.is_autocast_enabled(device) and self.weight.dtype == torch.float32
        dtype = torch.get_autocast_dtype(device) if autocast else self.weight.dtype
        if dtype not in self._cache:
            with torch.inference_mode(False):  # an inference tensor could not be renewed by the next `freeze`
                self._cache[dtype] = self._cache[self.weight.dtype].to(dtype)
        return self._cache[dtype]

    def freeze(self) -> None:
        """Quantizes now. The tensors keep their place from one evaluation to the next, for CUDA graphs."""
        if self.grid is None:
            with torch.inference_mode(False), torch.no_grad():
                weight = METHODS[self.weight_method].weight(self, self.weight_bits)
                for dtype, kept in list(self._cache.items()):
                    if kept.device == weight.device and kept.stride() == weight.stride():
                        kept.copy_(weight)
                    else:
                        del self._cache[dtype]
                self._cache.setdefault(weight.dtype, weight)
        self._frozen += 1

    def thaw(self) -> None:
        """Ends one `freeze`."""
        self._frozen -= 1

    def weight_grid(self) -> Grid:
        """How the codes of the quantized weight decode."""
        return METHODS[self.weight_method].grid(self, self.weight_bits) if self.grid is None else self.grid

    def reset_quantizer(self) -> None:
        """Sets what the quantizer learned to its start, which the float weight tells."""
        if self.grid is None:
            METHODS[self.weight_method].reset_weight(self, self.weight_bits)
        if self.grad_bits != FULL:
            self.grad_count.zero_()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_frozen": 0, "_cache": {}}


class QuantizedConv2d(QuantizedWeight, nn.Conv2d):
    """`nn.Conv2d` with a quantized weight."""

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self._conv_forward(input, self.quantized_weight(), self.bias)
        return self.with_gradient(output)


class QuantizedLinear(QuantizedWeight, nn.Linear):
    """`nn.Linear` with a quantized weight."""

    def forward(self, input: Tensor) -> Tensor:
        return self.with_gradient(nn.functional.linear(input, self.quantized_weight(), self.bias))


class QuantizedActivation(nn.Module):
    """Stands where an `nn.ReLU` or `nn.Identity` stood. The lowest level is 0, so the ReLU is contained."""

    act_bits: int
    act_method: str
    float_class: type[nn.Module]  # what it was

    def forward(self, input: Tensor) -> Tensor:
        return METHODS[self.act_method].activation(self, input, self.act_bits)

    def reset_quantizer(self) -> None:
        """Sets what the quantizer learned to its start."""
        _reset_activation(self)

    def extra_repr(self) -> str:
        return f"act_bits={self.act_bits}"


LAYERS: dict[type[nn.Module], type[QuantizedWeight]] = {
    nn.Conv2d: QuantizedConv2d,
    nn.Linear: QuantizedLinear,
}
_ACTIVATIONS = (nn.ReLU, nn.Identity)


def is_layer(module: nn.Module) -> bool:
    """Whether the module is a convolution or a linear layer, plain or not."""
    return isinstance(module, tuple(LAYERS))


def swap_layer(
    module: nn.Module, name: str, bits: int, method: str, *, grad_bits: int = FULL, grid: Grid | None = None
) -> None:
    """Makes a Conv2d or Linear quantize its weight, and the gradient of its output.

    Raises:
        InputError: a subclass of them, whose own forward pass would be lost.
    """
    if type(module) not in LAYERS:
        known = " or ".join(f"nn.{kind.__name__}" for kind in LAYERS)
        raise InputError(
            f'"{name}" is a {type(module).__name__}, and only a plain {known} can be quantized. '
            f'Leave it in full precision: skip=[..., "{name}"].'
        )
    module.__class__ = LAYERS[type(module)]
    assert isinstance(module, QuantizedWeight)
    module.weight_bits, module.weight_method, module.grid = bits, method, grid
    module._frozen, module._cache = 0, {}
    module.grad_bits, module.grad_key = grad_bits, derive_seed("gradient", name)
    if grad_bits != FULL:
        module.register_buffer("grad_count", torch.zeros((), dtype=torch.int64, device=module.weight.device))
    module.learned = () if grid is not None else METHODS[method].prepare_weight(module, bits)


def quantize_output(module: nn.Module, _inputs: Any, output: Any) -> Tensor:
    """The forward hook of act points that are neither ReLU nor identity; a function that can be pickled."""
    if not isinstance(output, Tensor):
        raise InputError(
            f"The act point {type(module).__name__} gave a {type(output).__name__}; it must give one tensor."
        )
    return METHODS[str(module.act_method)].activation(module, output, int(module.act_bits))  # type: ignore[arg-type]


def _reset_activation(module: nn.Module) -> None:
    METHODS[str(module.act_method)].reset_activation(module, int(module.act_bits))  # type: ignore[arg-type]


def swap_activation(module: nn.Module, bits: int, method: str, like: Tensor) -> None:
    """Makes a module quantize its output: a ReLU or identity becomes a quantizer, others get a hook.

    Args:
        module: an act point.
        bits: 1 to 8.
        method: a key of `METHODS`.
        like: has the device and type of the parameters that the method may add.
    """
    if type(module) in _ACTIVATIONS:
        module.float_class = type(module)  # type: ignore[assignment]
        module.__class__ = QuantizedActivation
    else:
        module.register_forward_hook(quantize_output)
        module.reset_quantizer = partial(_reset_activation, module)  # type: ignore[assignment]
    module.act_bits, module.act_method = bits, method  # type: ignore[assignment]
    METHODS[method].prepare_activation(module, bits, like)


def quantized_weights(model: nn.Module) -> dict[str, QuantizedWeight]:
    """The layers with quantized weights by name, in the network's order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedWeight)}


def quantized_activations(model: nn.Module) -> dict[str, nn.Module]:
    """The modules whose outputs are quantized by name, in the network's order."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "act_bits")}
