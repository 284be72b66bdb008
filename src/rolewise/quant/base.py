"""What a quantizer is: one class for the weights of a layer, one for the activations of a module.

What a quantizer learns are parameters of the modules; the classes hold no state.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rolewise.quant.grid import Grid

# Of layers, the type of the result, and a memory for what follows from their sizes: the quantized weights.
Together = Callable[[Sequence[Any], torch.dtype, dict[Any, Any]], tuple[Tensor, ...]]


class WeightQuantizer(ABC):
    """Quantizes the weight of a `Conv2d` or `Linear`."""

    @property
    def together(self) -> Together | None:
        """How a GPU makes the weights of 2 to 8 bits of all layers at once; None if it does not."""
        return None

    @abstractmethod
    def check(self, bits: int) -> None:
        """Raises InputError for bits that the quantizer does not have (1 to 8 and 32 have been checked)."""

    @abstractmethod
    def prepare(self, layer: nn.Module, bits: int) -> tuple[str, ...]:
        """Registers on a layer what is learned beside the float weight; returns the names of the parameters."""

    @abstractmethod
    def reset(self, layer: nn.Module, bits: int) -> None:
        """Sets to its start what `prepare` registered; the start follows from the float weight."""

    @abstractmethod
    def rescale(self, layer: nn.Module, before: int, after: int) -> None:
        """Fits what `prepare` registered, as training left it, to other bits."""

    @abstractmethod
    def quantize(self, layer: nn.Module, weight: Tensor, bits: int) -> Tensor:
        """The quantized weight, differentiable, in the type of `weight`.

        Args:
            layer: has what `prepare` registered.
            weight: the layer's float weight.
            bits: 1 to 8.
        """

    @abstractmethod
    def grid(self, layer: nn.Module, weight: Tensor, bits: int) -> Grid:
        """How the codes of the quantized weight decode."""


class ActivationQuantizer(ABC):
    """Quantizes the output of a module; the levels are 0 to 2^bits - 1 times `step`."""

    names: ClassVar[tuple[str, ...]] = ()  # of the parameters that `prepare` registers
    # True: the highest level is 1 exactly, whatever rounding makes of levels times `step`.
    unit: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, module: nn.Module, bits: int, like: Tensor) -> None:
        """Registers on a module what is learned; `like` has the device and type of the parameters."""

    @abstractmethod
    def reset(self, module: nn.Module, bits: int) -> None:
        """Sets to its start what `prepare` registered."""

    @abstractmethod
    def rescale(self, module: nn.Module, before: int, after: int) -> None:
        """Fits what `prepare` registered, as training left it, to other bits."""

    @abstractmethod
    def calibrate(self, module: nn.Module, activation: Tensor, bits: int) -> None:
        """Sets what `prepare` registered to fit one batch of the float activations."""

    @abstractmethod
    def quantize(self, module: nn.Module, activation: Tensor, bits: int) -> Tensor:
        """The quantized activation, differentiable, in the type of `activation`."""

    @abstractmethod
    def step(self, module: nn.Module, bits: int) -> float:
        """The distance of two levels."""


def parameter(module: nn.Module, name: str) -> Tensor:
    """A parameter that `prepare` registered."""
    found = getattr(module, name)
    assert isinstance(found, Tensor)
    return found
