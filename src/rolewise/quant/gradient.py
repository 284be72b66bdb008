"""DoReFa's quantization of gradients (`bit_g`), with noise that is a function of layer, step and position alone."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from rolewise.bits import levels
from rolewise.quant.dorefa import apply

# SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): its increment and the two factors of its finalizer, as signed 64 bits.
_INCREMENT = 0x9E3779B97F4A7C15 - (1 << 64)
_FACTORS = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))


def uniform_noise(like: Tensor, key: int, counter: Int64[Tensor, ""]) -> Tensor:
    """Uniform numbers within (-1/2, 1/2), of the shape of `like`, float32.

    Number i of step t is the (i + 1)-th output of SplitMix64 whose state begins at the output of a SplitMix64 at
    `key` for t: the same on every device, and no generator has to be saved.
    """

    def mix(state: Tensor) -> Tensor:
        for shift, factor in _FACTORS:
            state = (state ^ ((state >> shift) & ((1 << (64 - shift)) - 1))) * factor
        return state ^ ((state >> 31) & ((1 << 33) - 1))

    begin = mix(key + (counter + 1) * _INCREMENT)
    index = torch.arange(1, like.numel() + 1, device=like.device)
    top = (mix(begin + index * _INCREMENT) >> 40) & 0xFFFFFF
    return ((top.to(torch.float32) + 0.5) / (1 << 24) - 0.5).reshape(like.shape)


def quantize_gradient(grad: Float[Tensor, "n ..."], bits: int, noise: Tensor) -> Tensor:
    """2 m (q(clip(g/(2m) + 1/2 + N)) - 1/2), m the greatest |g| of a sample, N = noise / (2^bits - 1).

    Source: Zhou et al., eq. 12. A sample whose gradient is zero stays zero.

    Args:
        grad: one row a sample; any further dimensions.
        bits: 1 to 8.
        noise: tensor of the shape of `grad`, uniform within (-1/2, 1/2).
    """
    n = levels(bits)
    single = grad if grad.dtype == torch.float64 else grad.float()
    twice = 2 * single.flatten(1).abs().amax(1).reshape(-1, *[1] * (grad.ndim - 1))
    safe = torch.where(twice > 0, twice, torch.ones_like(twice))
    unit = (single / safe + 0.5 + noise / n).clamp_(0, 1)
    return (twice * (unit.mul_(n).round_().div_(n) - 0.5)).to(grad.dtype)


class _QuantizedGradient(torch.autograd.Function):
    """The identity; the gradient that comes back is quantized."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, key: int, counter: Tensor) -> Tensor:
        ctx.bits, ctx.key = bits, key
        ctx.save_for_backward(counter)
        return x.clone()  # a view may not be written into by an in-place layer that follows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (counter,) = ctx.saved_tensors
        noise = uniform_noise(grad, ctx.key, counter)
        return quantize_gradient(grad, ctx.bits, noise), None, None, None


def with_quantized_gradient(x: Tensor, bits: int, key: int, counter: Int64[Tensor, ""]) -> Tensor:
    """`x`, whose gradient will be quantized; several backward passes through it see the same noise.

    Args:
        x: `(n, ...)`, one row a sample.
        bits: 1 to 8.
        key: 63 bits that identify this place of the network.
        counter: counts the steps.
    """
    return apply(_QuantizedGradient, x, bits, key, counter)
