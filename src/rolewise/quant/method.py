"""What a quantizer is, and DoReFa as one."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from rolewise.quant.dorefa import levels, quantize_activation, quantize_weight
from rolewise.quant.grid import Grid


class Method:
    """A way to quantize weights and activations. What it learns are parameters of the modules."""

    name: ClassVar[str]

    def check(self, weight_bits: int, act_bits: int) -> None:
        """Raises InputError for bits that the method does not have (1 to 8 and 32 have been checked)."""

    def prepare_weight(self, layer: nn.Module, bits: int) -> tuple[str, ...]:
        """Registers on a layer what the method learns beside the float weight; returns the names."""
        return ()

    def prepare_activation(self, module: nn.Module, bits: int, like: Tensor) -> None:
        """The same for a module whose output is quantized; `like` has the device and type of the parameters."""

    def reset_weight(self, layer: nn.Module, bits: int) -> None:
        """Sets to its start what `prepare_weight` registered."""

    def reset_activation(self, module: nn.Module, bits: int) -> None:
        """Sets to its start what `prepare_activation` registered."""

    def rescale_weight(self, layer: nn.Module, before: int, after: int) -> None:
        """Fits what `prepare_weight` registered, as training left it, to other bits."""

    def rescale_activation(self, module: nn.Module, before: int, after: int) -> None:
        """Fits what `prepare_activation` registered, as training left it, to other bits."""

    def calibrate(self, module: nn.Module, activation: Tensor, bits: int) -> None:
        """Sets what `prepare_activation` registered to fit one batch of the float activations."""

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
