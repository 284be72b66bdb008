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
from torch import Tensor
from torch.autograd.function import once_differentiable

from rolewise.errors import InputError, InputTypeError, check_integer

FULL = 32  # the bit-width that means "not quantized"
MAX_BITS = 8


def check_bits(name: str, bits: object) -> int:
    """`bits` as an integer.

    Raises:
        InputError: not 1 to 8 or 32.
    """
    allowed = f"`{name}` must be 1 to {MAX_BITS}, or {FULL} (full precision), got {bits!r}."
    try:
        number = check_integer(name, bits, 1, FULL)
    except InputTypeError as error:
        raise InputTypeError(allowed) from error
    except InputError as error:
        raise InputError(allowed) from error
    if MAX_BITS < number < FULL:
        raise InputError(allowed)
    return number


def levels(bits: int) -> int:
    """n = 2^bits - 1, the number of steps between the lowest and the highest level."""
    return (1 << bits) - 1


def _inverse(maximum: Tensor) -> Tensor:
    """1/m, and 0 for m = 0, so that a tensor of zeros gives a level and no NaN; without asking the device."""
    return torch.where(maximum > 0, 1 / maximum, torch.zeros_like(maximum))


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
        ctx.save_for_backward(tanh, maximum)
        # The level i is stored as i and decoded as i * (2/n) - 1 in two roundings: the arithmetic of a
        # DequantizeLinear and a Sub, so that an exported file decodes to the same bits.
        return (tanh * (inverse * (n / 2))).add_(n / 2).round_().mul_(2 / n).sub_(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        tanh, maximum = ctx.saved_tensors
        inverse = _inverse(maximum)
        product = torch.mul(grad, tanh)
        total = product.sum()
        # t/m (a true division) is +-1 where |t| is the maximum and rounds to less elsewhere: sign(t) there, else 0.
        at_maximum = torch.div(tanh, torch.where(maximum > 0, maximum, 1), out=product).trunc_()
        share = total * inverse.square() / torch.linalg.vector_norm(at_maximum, 1).clamp_min(1)
        flat = torch.mul(grad, inverse).addcmul_(at_maximum, share, value=-1)
        return torch.ops.aten.tanh_backward(flat, tanh), None


class _SignWeights(torch.autograd.Function):
    """One-bit weights: mean|w| with the sign of w, straight-through."""

    @staticmethod
    def forward(_ctx: Any, weight: Tensor) -> Tensor:
        mean = weight.abs().mean()
        return torch.where(weight < 0, -mean, mean)

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        return grad


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
        (activation,) = ctx.saved_tensors
        info = torch.finfo(activation.dtype)
        below, above = -info.smallest_normal * info.eps, 1 + info.eps
        return torch.ops.aten.hardtanh_backward(grad, activation, below, above), None


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
        weight: of any shape. Half types are quantized in float32 and returned in their own type.
        bits: 1 to 8, or 32, which returns `weight` itself.

    Raises:
        InputError: other bits, or a tensor that is not floating-point.
    """
    bits = check_bits("bits", bits)
    _check_floating("weight", weight)
    if bits == FULL:
        return weight
    single = weight if weight.dtype.itemsize > 2 else weight.float()
    quantized = apply(_SignWeights, single) if bits == 1 else apply(_Weights, single, bits)
    return quantized.to(weight.dtype)


def quantize_activation(activation: Tensor, bits: int) -> Tensor:
    """The activations as DoReFa quantizes them; differentiable.

    Source: Zhou et al., eq. 5 and 9 with the bounded activation clip(a, 0, 1).

    Args:
        activation: of any shape; the result has its type, and each value is the one of that type nearest to a
            level.
        bits: 1 to 8, or 32, which is a plain ReLU.

    Raises:
        InputError: other bits, or a tensor that is not floating-point.
    """
    bits = check_bits("bits", bits)
    _check_floating("activation", activation)
    if bits == FULL:
        return torch.relu(activation)
    if torch.compiler.is_exporting():  # an exported graph has no gradients, and is read by others
        return activation.clamp(0, 1).mul(levels(bits)).round().div(levels(bits))
    return apply(_Activations, activation, bits)
