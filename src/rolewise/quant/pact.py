"""PACT: the bound at which activations are clipped is learned; the weights are DoReFa's.

Source: Choi et al., PACT, arXiv 1805.06085: a_q = round(clip(a, 0, alpha) n/alpha) alpha/n; gradient 1 on
[0, alpha), 0 outside; the bound's gradient is the sum of those from alpha on (eq. 3).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rolewise.bits import levels
from rolewise.quant import kernels
from rolewise.quant.base import ActivationQuantizer, parameter
from rolewise.quant.dorefa import apply
from rolewise.quant.flat import aligned_as
from rolewise.quant.kernels import SMALLEST_CLIP
from rolewise.quant.tracing import bare, composed, straight_through


class _LearnedClip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Tensor, clip: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(activation, clip)
        wide = activation if activation.dtype.itemsize > 2 else activation.float()
        bound = clip.to(wide.dtype).clamp_min(SMALLEST_CLIP)
        step = bound / levels(bits)
        rounded = torch.minimum(wide.clamp_min(0), bound).div_(step).round_()
        return rounded.mul_(step).to(activation.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        activation, clip = ctx.saved_tensors
        # One dimension, so that the half types are compared in float32, as they were clipped.
        beyond = activation >= clip.clamp_min(SMALLEST_CLIP).reshape([1] * max(activation.ndim, 1))
        bound = torch.where(beyond, grad, 0).sum(dtype=clip.dtype)
        return torch.where((activation >= 0) & ~beyond, grad, 0), bound, None


class _KernelClip(torch.autograd.Function):
    """`_LearnedClip` with one kernel in each direction."""

    @staticmethod
    def forward(ctx: Any, activation: Tensor, clip: Tensor, bits: int) -> Tensor:
        activation = activation if kernels.dense(activation) else activation.contiguous()
        ctx.save_for_backward(activation, clip)
        return kernels.clip_levels(activation, clip, levels(bits))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        activation, clip = ctx.saved_tensors
        passed, parts = kernels.clip_gradient(aligned_as(activation, grad), activation, clip)
        return passed, parts.sum(), None


def _composed_clip(activation: Tensor, clip: Tensor, bits: int) -> Tensor:
    """`_LearnedClip` of plain operations."""
    if bare():
        bound = clip.clamp_min(SMALLEST_CLIP)
        step = bound / levels(bits)
        return torch.minimum(activation.clamp_min(0), bound).div(step).round().mul(step)
    wide = activation if activation.dtype.itemsize > 2 else activation.float()
    fixed = wide.detach()
    bound = clip.detach().to(wide.dtype).clamp_min(SMALLEST_CLIP)
    step = bound / levels(bits)
    value = (torch.minimum(fixed.clamp_min(0), bound) / step).round() * step
    beyond = fixed >= bound
    value = straight_through(value, wide, (fixed >= 0) & ~beyond)
    return (value + torch.where(beyond, clip - clip.detach(), 0)).to(activation.dtype)


def quantize_learned_clip(activation: Tensor, clip: Tensor, bits: int) -> Tensor:
    """Activations clipped to [0, clip] and rounded to 2^bits levels; differentiable in both.

    Args:
        activation: tensor of any shape; half types are computed in float32.
        clip: `()`, the highest level, in units of the activations.
        bits: 1 to 8.
    """
    if composed():
        return _composed_clip(activation, clip, bits)
    kernel = kernels.usable(activation) and clip.dtype == torch.float32
    return apply(_KernelClip if kernel else _LearnedClip, activation, clip, bits)


class PACTActivations(ActivationQuantizer):
    """A learned bound `act_clip`, `()`, at each act point.

    It starts at 3, three standard deviations of what BatchNorm with unit scale gives. The paper starts at 10 and
    lets weight decay bring it down, which takes more epochs than a student that starts from its teacher trains for:
    our choice. `calibrate` sets it to mean + 3 standard deviations of what images give.
    """

    names = ("act_clip",)

    def prepare(self, module: nn.Module, bits: int, like: Tensor) -> None:
        clip = torch.ones((), dtype=like.dtype, device=like.device)
        module.register_parameter("act_clip", nn.Parameter(clip))
        self.reset(module, bits)

    def reset(self, module: nn.Module, bits: int) -> None:
        with torch.no_grad():
            parameter(module, "act_clip").fill_(3.0)

    def rescale(self, module: nn.Module, before: int, after: int) -> None:
        """The bound stays: it is in units of the activations."""

    def calibrate(self, module: nn.Module, activation: Tensor, bits: int) -> None:
        with torch.no_grad():
            positive = activation.float().clamp_min(0)
            parameter(module, "act_clip").copy_(positive.mean() + 3 * positive.std())

    def quantize(self, module: nn.Module, activation: Tensor, bits: int) -> Tensor:
        return quantize_learned_clip(activation, parameter(module, "act_clip"), bits)

    def step(self, module: nn.Module, bits: int) -> float:
        clip = parameter(module, "act_clip").detach().float()
        return float(clip.clamp_min(SMALLEST_CLIP) / levels(bits))
