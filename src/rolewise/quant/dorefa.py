"""DoReFa as published: the values of k-bit weights and activations, and their gradients in closed form.

With k bits and n = 2^k - 1, q(x) = round(n x) / n on [0, 1], round half to even:

- weights: w_q = 2 q( tanh(w) / (2 max|tanh(w)|) + 1/2 ) - 1, the maximum over the whole tensor and
  differentiated;
- one-bit weights: w_q = mean|w| sign(w), sign(0) = +1, the mean a constant, the gradient passed on unchanged;
- activations: a_q = q(clip(a, 0, 1)), gradient 1 on [0, 1], bounds included, and 0 outside.

Rounding itself has derivative 1 (straight-through). 32 bits: weights as they are, activations a plain ReLU.

Source: Zhou et al., DoReFa-Net, arXiv 1606.06160, eq. 5-9.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rolewise.bits import FULL, check_bits, levels
from rolewise.errors import InputTypeError
from rolewise.quant import kernels
from rolewise.quant.base import ActivationQuantizer, Together, WeightQuantizer
from rolewise.quant.flat import dorefa_together
from rolewise.quant.grid import Grid
from rolewise.quant.tracing import bare, composed, straight_through


def _inverse(maximum: Tensor) -> Tensor:
    """1/m, and 0 for m = 0, so that a tensor of zeros gives a level and no NaN; without asking the device."""
    return maximum.reciprocal().masked_fill_(maximum == 0, 0)


class _Weights(torch.autograd.Function):
    """w_q for 2 to 8 bits.

    With t = tanh(w), m = max|t|, g the gradient of w_q: the value before rounding is t/m, hence
    dt_i = g_i/m - [|t_i| = m] sign(t_i) sum_j(g_j t_j) / (m^2 c), c the number of entries that share the
    maximum (the even share that `amax` gives too), and dw = (1 - t^2) dt.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int) -> Tensor:
        n = levels(bits)
        tanh = torch.tanh(weight)
        low, high = tanh.aminmax()
        maximum = torch.maximum(-low, high)
        inverse = _inverse(maximum)
        ctx.save_for_backward(tanh, maximum, inverse)
        # The level i is stored as i and decoded as i * (2/n) - 1 in two roundings: the arithmetic of a
        # DequantizeLinear and a Sub, so that an exported file decodes to the same bits.
        return (tanh * (inverse * (n / 2))).add_(n / 2).round_().mul_(2 / n).sub_(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        tanh, maximum, inverse = ctx.saved_tensors
        product = torch.mul(grad, tanh)
        total = product.sum()
        # t/m (a true division) is +-1 where |t| is the maximum and rounds to less elsewhere: sign(t) there, else 0.
        safe = maximum.clamp_min(torch.finfo(maximum.dtype).smallest_normal)
        at_maximum = torch.div(tanh, safe, out=product).trunc_()
        share = total * inverse.square() / torch.linalg.vector_norm(at_maximum, 1).clamp_min(1)
        flat = torch.mul(grad, inverse).addcmul_(at_maximum, share, value=-1)
        return torch.ops.aten.tanh_backward(flat, tanh), None


def _composed_weights(weight: Tensor, bits: int) -> Tensor:
    """`_Weights` of plain operations."""
    n = levels(bits)
    tanh = torch.tanh(weight)
    maximum = tanh.abs().amax()
    value, inverse = tanh.detach(), _composed_inverse(maximum.detach())
    value = (value * (inverse * (n / 2)) + n / 2).round() * (2 / n) - 1
    if bare():
        return value
    return straight_through(value, tanh * _composed_inverse(maximum))


def _composed_inverse(maximum: Tensor) -> Tensor:
    """`_inverse`; its gradient at 0 is 0."""
    positive = maximum > 0
    return torch.where(positive, 1 / torch.where(positive, maximum, 1), 0)


class _SignWeights(torch.autograd.Function):
    """One-bit weights: mean|w| with the sign of w, straight-through."""

    @staticmethod
    def forward(_ctx: Any, weight: Tensor) -> Tensor:
        mean = weight.abs().mean()
        return torch.where(weight < 0, -mean, mean)

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        return grad


def _composed_sign(weight: Tensor) -> Tensor:
    """`_SignWeights` of plain operations."""
    mean = weight.detach().abs().mean()
    value = torch.where(weight.detach() < 0, -mean, mean)
    return value if bare() else straight_through(value, weight)


def round_levels(x: Tensor, n: int) -> Tensor:
    """round(n x) / n for x in [0, 1], in the place of x, half to even, in the type of x.

    In 16 bits n*x would be rounded before it is rounded to an integer. There 1/eps + n*x is computed instead:
    PyTorch adds and multiplies in float32 and rounds once, and from 1/eps on the spacing of the type is 1, so
    that this one rounding gives the integer. The result is the value of the type that is nearest to the
    level.
    """
    if x.dtype.itemsize > 2:
        return x.mul_(n).round_().div_(n)
    offset = round(1 / torch.finfo(x.dtype).eps)
    if n > 127:  # beyond the spacing 1 of bfloat16, and the sum is too coarse for the small values of float16
        return x.copy_(x.float().mul_(n).round_().div_(n))
    torch.add(torch.full((), offset, dtype=x.dtype), x, alpha=n, out=x)
    return x.sub_(offset).div_(n)


class _Activations(torch.autograd.Function):
    """a_q for 1 to 8 bits. The backward is the one of hardtanh, whose bounds are open, a hair outside [0, 1].

    It keeps the input, which in a ResNet the ReLU before has kept already: on a CPU that takes half the time of
    a boolean mask that is made, kept and multiplied.
    """

    @staticmethod
    def forward(ctx: Any, activation: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(activation)
        return round_levels(activation.clamp(0, 1), levels(bits))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _within(grad, *ctx.saved_tensors), None


class _KernelActivations(torch.autograd.Function):
    """`_Activations` with one kernel for all of the forward pass."""

    @staticmethod
    def forward(ctx: Any, activation: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(activation)
        return kernels.activation_levels(activation, levels(bits))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _within(grad, *ctx.saved_tensors), None


def _within(grad: Tensor, activation: Tensor) -> Tensor:
    """The gradient where the activation lies in [0, 1], bounds included, 0 elsewhere: one kernel."""
    info = torch.finfo(activation.dtype)
    below, above = -info.smallest_normal * info.eps, 1 + info.eps
    found: Tensor = torch.ops.aten.hardtanh_backward(grad, activation, below, above)
    return found


def _composed_activation(activation: Tensor, bits: int) -> Tensor:
    """`_Activations` of plain operations, in float32 for the half types."""
    n = levels(bits)
    if bare():
        return activation.clamp(0, 1).mul(n).round().div(n)
    wide = activation if activation.dtype.itemsize > 2 else activation.float()
    fixed = wide.detach()
    value = (fixed.clamp(0, 1) * n).round() / n
    return straight_through(value, wide, (fixed >= 0) & (fixed <= 1)).to(activation.dtype)


def apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """`function.apply` with a type."""
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


def _check_floating(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        came = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise InputTypeError(f"`{name}` must be a floating-point tensor, got {came}.")


def quantize_weight(weight: Tensor, bits: int) -> Tensor:
    """The weights as DoReFa quantizes them; differentiable.

    Source: Zhou et al., eq. 8 (1 bit: eq. 5). A tensor of zeros gives +1/n everywhere and the gradient 0,
    where the formula gives 0/0: our choice.

    Args:
        weight: tensor of any shape. Half types are quantized in float32 and returned in their own type.
        bits: 1 to 8, or 32, which returns `weight` itself.

    Raises:
        InputError: other bits, or a tensor that is not floating-point.
    """
    bits = check_bits("bits", bits)
    _check_floating("weight", weight)
    if bits == FULL:
        return weight
    single = weight if weight.dtype.itemsize > 2 else weight.float()
    if composed():
        quantized = _composed_sign(single) if bits == 1 else _composed_weights(single, bits)
    else:
        quantized = apply(_SignWeights, single) if bits == 1 else apply(_Weights, single, bits)
    return quantized.to(weight.dtype)


def quantize_activation(activation: Tensor, bits: int) -> Tensor:
    """The activations as DoReFa quantizes them; differentiable.

    Source: Zhou et al., eq. 5 and 9 with the bounded activation clip(a, 0, 1).

    Args:
        activation: tensor of any shape; the result has its type, and each value is the one of that type
            nearest to a level.
        bits: 1 to 8, or 32, which is a plain ReLU.

    Raises:
        InputError: other bits, or a tensor that is not floating-point.
    """
    bits = check_bits("bits", bits)
    _check_floating("activation", activation)
    if bits == FULL:
        return torch.relu(activation)
    if composed():
        return _composed_activation(activation, bits)
    if kernels.usable(activation):
        return apply(_KernelActivations, activation, bits)
    return apply(_Activations, activation, bits)


class DoReFaWeights(WeightQuantizer):
    """Nothing learned beside the weights."""

    @property
    def together(self) -> Together:
        return dorefa_together

    def check(self, bits: int) -> None:
        """Every bit-width will do."""

    def prepare(self, layer: nn.Module, bits: int) -> tuple[str, ...]:
        return ()

    def reset(self, layer: nn.Module, bits: int) -> None:
        """There is nothing to reset."""

    def rescale(self, layer: nn.Module, before: int, after: int) -> None:
        """There is nothing to rescale."""

    def quantize(self, layer: nn.Module, weight: Tensor, bits: int) -> Tensor:
        return quantize_weight(weight, bits)

    def grid(self, layer: nn.Module, weight: Tensor, bits: int) -> Grid:
        if bits == 1:
            mean = float(weight.detach().float().abs().mean())
            return Grid(1, scale=2 * mean, shift=mean)
        return Grid(bits, scale=float(torch.tensor(2 / levels(bits))), shift=1.0)


class DoReFaActivations(ActivationQuantizer):
    """Nothing learned."""

    unit = True

    def prepare(self, module: nn.Module, bits: int, like: Tensor) -> None:
        """There is nothing to learn."""

    def reset(self, module: nn.Module, bits: int) -> None:
        """There is nothing to reset."""

    def rescale(self, module: nn.Module, before: int, after: int) -> None:
        """There is nothing to rescale."""

    def calibrate(self, module: nn.Module, activation: Tensor, bits: int) -> None:
        """The levels are fixed."""

    def quantize(self, module: nn.Module, activation: Tensor, bits: int) -> Tensor:
        return quantize_activation(activation, bits)

    def step(self, module: nn.Module, bits: int) -> float:
        return 1 / levels(bits)
