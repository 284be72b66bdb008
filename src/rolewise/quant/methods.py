"""What a quantizer is, and the table of them: DoReFa, LSQ, PACT."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from rolewise.errors import InputError, unknown
from rolewise.quant.dorefa import levels, quantize_activation, quantize_weight
from rolewise.quant.grid import Grid


class WeightLayer(Protocol):
    """What a quantizer needs of a layer: its float weight; parameters of its own it registers there."""

    weight: nn.Parameter

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None: ...


class Method:
    """A way to quantize weights and activations. What it learns are parameters of the modules."""

    name: ClassVar[str]

    def check(self, weight_bits: int, act_bits: int) -> None:
        """Raises InputError for bits that the method does not have (1 to 8 and 32 have been checked)."""

    def prepare_weight(self, layer: nn.Module, bits: int) -> tuple[str, ...]:
        """Registers on a layer what the method learns beside the float weight; returns the names."""
        return ()

    def prepare_activation(self, module: nn.Module, bits: int) -> None:
        """The same for a module whose output is quantized."""

    def weight(self, layer: nn.Module, bits: int) -> Tensor:
        """The quantized weight, differentiable."""
        raise TypeError(f"{type(self).__name__} quantizes no weights.")

    def activation(self, module: nn.Module, activation: Tensor, bits: int) -> Tensor:
        """The quantized activation, differentiable."""
        raise TypeError(f"{type(self).__name__} quantizes no activations.")

    def grid(self, layer: nn.Module, bits: int) -> Grid:
        """How the codes of the layer's quantized weight decode."""
        raise TypeError(f"{type(self).__name__} has no grid.")

    def step(self, module: nn.Module, bits: int) -> float:
        """The distance of two levels of the activations; the levels are 0 to 2^bits - 1 times it."""
        raise TypeError(f"{type(self).__name__} has no step.")


def float_weight(layer: nn.Module) -> Tensor:
    """The layer's float weight."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


class DoReFa(Method):
    """DoReFa-Net, Zhou et al., arXiv 1606.06160: nothing learned beside the weights."""

    name = "dorefa"

    def weight(self, layer: nn.Module, bits: int) -> Tensor:
        return quantize_weight(float_weight(layer), bits)

    def activation(self, module: nn.Module, activation: Tensor, bits: int) -> Tensor:
        return quantize_activation(activation, bits)

    def grid(self, layer: nn.Module, bits: int) -> Grid:
        if bits == 1:
            mean = float(float_weight(layer).detach().float().abs().mean())
            return Grid(1, scale=2 * mean, shift=mean)
        return Grid(bits, scale=float(torch.tensor(2 / levels(bits))), shift=1.0)

    def step(self, module: nn.Module, bits: int) -> float:
        return 1 / levels(bits)


METHODS: Mapping[str, Method] = {method.name: method for method in (DoReFa(),)}


def find_method(name: str) -> Method:
    """The method of this name.

    Raises:
        InputError: no method bears the name.
    """
    if name not in METHODS:
        raise InputError(unknown("quantization method", name, METHODS))
    return METHODS[name]
