"""Layers whose weights are quantized: the same objects under another class.

Parameters, buffers, hooks and references to a layer stay; so do the names in `state_dict`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from rolewise.bits import FULL
from rolewise.errors import InputError
from rolewise.quant.gradient import with_quantized_gradient
from rolewise.quant.grid import Grid
from rolewise.quant.kernels import snapshot
from rolewise.quant.method import METHODS
from rolewise.quant.passes import Passes
from rolewise.quant.tracing import composed
from rolewise.quant.watch import note_use
from rolewise.seeds import derive_seed


class QuantizedWeight(nn.Module):
    """A layer that multiplies by its quantized weight; the parameter `weight` is and stays the float one.

    While a forward pass of the network runs, reading `weight` gives the quantized weight, so that code which takes
    the weight from the layer instead of calling it computes with the same numbers.

    A layer that came from a packed file has a `grid`: its `weight` holds the decoded levels and is used as it
    is.
    """

    weight_bits: int
    weight_method: str
    grid: Grid | None
    learned: tuple[str, ...]  # names of the parameters that the method adds to `weight`
    grad_bits: int
    grad_key: int
    grad_count: Tensor  # steps so far; a buffer, there only with grad_bits < 32
    _passes: Passes
    _frozen: int
    _cache: dict[torch.dtype, Tensor]

    @property
    def weight(self) -> Tensor:
        """The float weight, or within a forward pass of the network the quantized one."""
        return self.quantized_weight() if composed() or self._passes.running else self.float_weight()

    @weight.setter
    def weight(self, value: Tensor) -> None:
        # What is no parameter: a hook recomputes it, or a replica has it.
        self.__dict__["weight"] = value

    @weight.deleter
    def weight(self) -> None:
        self.__dict__.pop("weight", None)

    def float_weight(self) -> Tensor:
        """The float weight; after packing, the decoded levels."""
        found: Tensor | None = self._parameters.get("weight")
        if found is None:
            found = self.__dict__.get("weight")
        if found is None and type(self).weight is not QuantizedWeight.weight:
            found = self.weight  # a parametrization that was put on the layer later computes it
        if not isinstance(found, Tensor):
            raise AttributeError("weight")
        return found

    def quantized_weight(self) -> Tensor:
        """The weight that the layer multiplies by: newly made, or kept by `frozen_weights` or the running pass."""
        if not composed():
            note_use(self)
        if self.grid is not None:
            return self.float_weight()
        if not composed():
            if self._frozen and not torch.is_grad_enabled() and self._cache:
                return self._cached()
            made = self._passes.made(self)
            if made is not None and made.dtype == self.computing_type():
                return made
        return self._quantize()

    def _quantize(self) -> Tensor:
        return METHODS[self.weight_method].weights.quantize(self, self.float_weight(), self.weight_bits)

    @property
    def flat(self) -> bool:
        """Whether the weight can be quantized together with those of other layers."""
        if self.grid is not None or self.weight_bits < 2 or (self._frozen and not torch.is_grad_enabled()):
            return False
        return METHODS[self.weight_method].weights.together is not None and "weight" in self._parameters

    def with_gradient(self, output: Tensor) -> Tensor:
        """The layer's output, whose gradient will be quantized if `grad_bits` says so."""
        if self.grad_bits == FULL or not (self.training and torch.is_grad_enabled()):
            return output
        if composed():
            # The forward pass must need the counter, else a compiler reads it afterwards, one too high.
            counter = snapshot(self.grad_count)
            self.grad_count.copy_(counter + 1)
        else:
            counter = self.grad_count.clone()
            self.grad_count.add_(1)
        return with_quantized_gradient(output, self.grad_bits, self.grad_key, counter)

    def computing_type(self) -> torch.dtype:
        """The type in which the layer multiplies: autocast's for a float32 weight."""
        weight = self.float_weight()
        device = weight.device.type
        autocast = torch.is_autocast_enabled(device) and weight.dtype == torch.float32
        return torch.get_autocast_dtype(device) if autocast else weight.dtype

    def _cached(self) -> Tensor:
        dtype = self.computing_type()
        if dtype not in self._cache:
            with torch.inference_mode(False):  # an inference tensor could not be renewed by the next `freeze`
                self._cache[dtype] = self._cache[self.float_weight().dtype].to(dtype)
        return self._cache[dtype]

    def freeze(self) -> None:
        """Quantizes now. The tensors keep their place from one evaluation to the next, for CUDA graphs.

        A weight that is no parameter is left out: a hook recomputes it at each call.
        """
        if self.grid is None and "weight" in self._parameters:
            with torch.inference_mode(False), torch.no_grad():
                weight = self._quantize()
                for dtype, kept in list(self._cache.items()):
                    if kept.device == weight.device and kept.stride() == weight.stride():
                        kept.copy_(weight)
                    else:
                        del self._cache[dtype]
                self._cache.setdefault(weight.dtype, weight)
        else:
            self._cache.clear()
        self._frozen += 1

    def thaw(self) -> None:
        """Ends one `freeze`."""
        self._frozen -= 1

    def weight_grid(self) -> Grid:
        """How the codes of the quantized weight decode."""
        if self.grid is not None:
            return self.grid
        return METHODS[self.weight_method].weights.grid(self, self.float_weight(), self.weight_bits)

    def reset_quantizer(self) -> None:
        """Sets what the quantizer learned to its start, which follows from the float weight."""
        if self.grid is None:
            METHODS[self.weight_method].weights.reset(self, self.weight_bits)
        if self.grad_bits != FULL:
            self.grad_count.zero_()

    def reset_parameters(self) -> None:
        """Redraws the float weight, as the layer's float class does; the quantizer restarts from it."""
        super().reset_parameters()  # type: ignore[misc]
        self.reset_quantizer()

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


LAYERS: dict[type[nn.Module], type[QuantizedWeight]] = {
    nn.Conv2d: QuantizedConv2d,
    nn.Linear: QuantizedLinear,
}


def is_layer(module: nn.Module) -> bool:
    """Whether the module is a convolution or a linear layer, plain or not."""
    return isinstance(module, tuple(LAYERS))


def check_layer(module: nn.Module, name: str) -> None:
    """Checks that a layer can be quantized.

    Raises:
        InputError: a subclass of Conv2d or Linear, whose own forward pass would be lost; a weight that is no
            parameter, since a hook recomputes it from others.
    """
    if type(module) not in LAYERS:
        known = " or ".join(f"nn.{kind.__name__}" for kind in LAYERS)
        raise InputError(
            f'"{name}" is a {type(module).__name__}, and only a plain {known} can be quantized. '
            f'Leave it in full precision: skip=[..., "{name}"].'
        )
    if "weight" not in module._parameters:
        raise InputError(
            f'The weight of "{name}" is no parameter: a hook recomputes it (torch.nn.utils.prune, weight_norm or '
            f"spectral_norm). Make the result permanent first, for example prune.remove(layer, "
            f'"weight"), or leave the layer in full precision: skip=[..., "{name}"].'
        )


def swap_layer(
    module: nn.Module,
    name: str,
    bits: int,
    method: str,
    passes: Passes,
    *,
    grad_bits: int = FULL,
    grid: Grid | None = None,
) -> None:
    """Makes a Conv2d or Linear that `check_layer` accepts quantize its weight, and the gradient of its output."""
    learned = () if grid is not None else METHODS[method].weights.prepare(module, bits)
    module.__class__ = LAYERS[type(module)]
    assert isinstance(module, QuantizedWeight)
    module.weight_bits, module.weight_method, module.grid = bits, method, grid
    module.learned = learned
    module._frozen, module._cache, module._passes = 0, {}, passes
    module.grad_bits, module.grad_key = grad_bits, derive_seed("gradient", name)
    if grad_bits != FULL:
        device = module.float_weight().device
        module.register_buffer("grad_count", torch.zeros((), dtype=torch.int64, device=device))


def unswap_layer(layer: nn.Module) -> None:
    """Makes a quantized layer a float one again."""
    assert isinstance(layer, QuantizedWeight)
    for name in (*layer.learned, *(("grad_count",) if layer.grad_bits != FULL else ())):
        delattr(layer, name)
    module: nn.Module = layer
    module.__class__ = next(plain for plain, low in LAYERS.items() if isinstance(layer, low))
    for name in ("weight_bits", "weight_method", "grid", "learned", "grad_bits", "grad_key"):
        delattr(module, name)
    for name in ("_passes", "_frozen", "_cache"):
        delattr(module, name)


def beneath(model: nn.Module) -> nn.Module:
    """The network that `torch.compile(model)` wraps, or `model`: names of modules are those of this one."""
    while type(model).__name__ == "OptimizedModule" and isinstance(
        inner := model._modules.get("_orig_mod"), nn.Module
    ):
        model = inner
    return model


def quantized_weights(model: nn.Module) -> dict[str, QuantizedWeight]:
    """The layers with quantized weights by name, in the network's order."""
    modules = beneath(model).named_modules()
    return {name: module for name, module in modules if isinstance(module, QuantizedWeight)}
