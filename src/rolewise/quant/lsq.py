"""LSQ: the distance of the levels is learned, one for each weight tensor and each activation.

Source: Esser et al., Learned Step Size Quantization, ICLR 2020. With step s and integer bounds Q_N <= 0 <= Q_P,
x_q = s round(clip(x/s, Q_N, Q_P)); dx_q/dx = 1 strictly within the bounds and 0 outside; dx_q/ds = round(x/s) - x/s
within, and the bound outside (eq. 3); the gradient of s is scaled by 1/sqrt(N Q_P), N the number of weights, or of
features of one image (section 2.2).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rolewise.bits import FULL, levels
from rolewise.errors import InputError
from rolewise.quant import kernels
from rolewise.quant.base import ActivationQuantizer, Together, WeightQuantizer, parameter
from rolewise.quant.dorefa import apply
from rolewise.quant.flat import aligned_as
from rolewise.quant.flat_steps import lsq_together
from rolewise.quant.grid import Grid
from rolewise.quant.kernels import SMALLEST_STEP
from rolewise.quant.tracing import bare, composed, straight_through


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, scale: float) -> Tensor:
        wide = x if x.dtype.itemsize > 2 else x.float()
        safe = step.to(wide.dtype).clamp_min(SMALLEST_STEP)
        scaled = wide / safe
        ctx.save_for_backward(scaled)
        ctx.low, ctx.high, ctx.scale, ctx.step_type = low, high, scale, step.dtype
        # Adding 0 turns -0 into +0; integer codes cannot distinguish them.
        return scaled.clamp(low, high).round_().add_(0).mul_(safe).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (scaled,) = ctx.saved_tensors
        # hardtanh's backward is the first argument where the second lies strictly within the bounds, else 0.
        inner = torch.ops.aten.hardtanh_backward(scaled, scaled, ctx.low, ctx.high)
        slope = scaled.clamp(ctx.low, ctx.high).round_().sub_(inner)
        step = (grad * slope).sum().to(ctx.step_type) * ctx.scale
        wide = grad.to(scaled.dtype)
        passed = torch.ops.aten.hardtanh_backward(wide, scaled, ctx.low, ctx.high).to(grad.dtype)
        return passed, step, None, None, None


class _KernelStep(torch.autograd.Function):
    """`_LearnedStep` with one kernel in each direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, scale: float) -> Tensor:
        x = x if kernels.dense(x) else x.contiguous()
        ctx.save_for_backward(x, step)
        ctx.low, ctx.high, ctx.scale = low, high, scale
        return kernels.step_levels(x, step, low, high)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, step = ctx.saved_tensors
        passed, parts = kernels.step_gradient(aligned_as(x, grad), x, step, ctx.low, ctx.high, ctx.scale)
        return passed, parts.sum(), None, None, None


def _composed_step(x: Tensor, step: Tensor, low: int, high: int, scale: float) -> Tensor:
    """`_LearnedStep` of plain operations."""
    if bare():
        safe = step.clamp_min(SMALLEST_STEP)
        return x.div(safe).clamp(low, high).round().mul(safe)
    wide = x if x.dtype.itemsize > 2 else x.float()
    safe = step.detach().to(wide.dtype).clamp_min(SMALLEST_STEP)
    scaled = wide.detach() / safe
    inside = (scaled > low) & (scaled < high)
    rounded = scaled.clamp(low, high).round()
    slope = (rounded - torch.where(inside, scaled, 0)) * scale
    value = straight_through(rounded * safe, wide, inside) + (step - step.detach()) * slope
    return value.to(x.dtype)


def quantize_learned_step(x: Tensor, step: Tensor, low: int, high: int, scale: float) -> Tensor:
    """`x` at levels `low` to `high` times `step`; differentiable in both.

    Args:
        x: tensor of any shape; half types are computed in float32.
        step: `()`, the distance of two levels.
        low, high: the integer bounds.
        scale: factor of the step's gradient, no unit.
    """
    if composed():
        return _composed_step(x, step, low, high, scale)
    one = _KernelStep if kernels.usable(x) and step.dtype == torch.float32 else _LearnedStep
    return apply(one, x, step, low, high, scale)


class LSQWeights(WeightQuantizer):
    """A learned step `weight_step`, `()`, beside the float weight; it starts at 2 mean|w| / sqrt(Q_P) as published."""

    @property
    def together(self) -> Together:
        return lsq_together

    def check(self, bits: int) -> None:
        if bits < 2:
            raise InputError(
                f'`weight_bits` must be 2 to 8 or {FULL} with method="lsq", got {bits}: its one-bit weights would '
                f'be -1 and 0. method="dorefa" and method="pact" have one-bit weights.'
            )

    def prepare(self, layer: nn.Module, bits: int) -> tuple[str, ...]:
        like = layer.weight
        assert isinstance(like, Tensor)
        step = torch.ones((), dtype=like.dtype, device=like.device)
        layer.register_parameter("weight_step", nn.Parameter(step))
        self.reset(layer, bits)
        return ("weight_step",)

    def reset(self, layer: nn.Module, bits: int) -> None:
        with torch.no_grad():
            mean = parameter(layer, "weight").abs().mean()
            parameter(layer, "weight_step").copy_(2 * mean / math.sqrt(_high(bits)))

    def rescale(self, layer: nn.Module, before: int, after: int) -> None:
        with torch.no_grad():
            parameter(layer, "weight_step").mul_(math.sqrt(_high(before) / _high(after)))

    def quantize(self, layer: nn.Module, weight: Tensor, bits: int) -> Tensor:
        high = _high(bits)
        scale = 1 / math.sqrt(weight.numel() * high)
        return quantize_learned_step(weight, parameter(layer, "weight_step"), -high - 1, high, scale)

    def grid(self, layer: nn.Module, weight: Tensor, bits: int) -> Grid:
        step = float(parameter(layer, "weight_step").detach().float().clamp_min(SMALLEST_STEP))
        return Grid(bits, scale=step, zero_point=_high(bits) + 1)


class LSQActivations(ActivationQuantizer):
    """A learned step `act_step`, `()`.

    The paper starts it at 2 mean|a| / sqrt(Q_P) of the first batch; here the start needs no data: the mean is that of
    a ReLU after BatchNorm with unit scale, 1/sqrt(2 pi). `calibrate` sets it from images.
    """

    names = ("act_step",)

    def prepare(self, module: nn.Module, bits: int, like: Tensor) -> None:
        step = torch.ones((), dtype=like.dtype, device=like.device)
        module.register_parameter("act_step", nn.Parameter(step))
        self.reset(module, bits)

    def reset(self, module: nn.Module, bits: int) -> None:
        with torch.no_grad():
            parameter(module, "act_step").fill_(2 / math.sqrt(2 * math.pi * levels(bits)))

    def rescale(self, module: nn.Module, before: int, after: int) -> None:
        with torch.no_grad():
            parameter(module, "act_step").mul_(math.sqrt(levels(before) / levels(after)))

    def calibrate(self, module: nn.Module, activation: Tensor, bits: int) -> None:
        with torch.no_grad():
            mean = activation.float().clamp_min(0).mean()
            parameter(module, "act_step").copy_(2 * mean / math.sqrt(levels(bits)))

    def quantize(self, module: nn.Module, activation: Tensor, bits: int) -> Tensor:
        high = levels(bits)
        scale = 1 / math.sqrt(math.prod(activation.shape[1:]) * high)
        return quantize_learned_step(activation, parameter(module, "act_step"), 0, high, scale)

    def step(self, module: nn.Module, bits: int) -> float:
        return float(parameter(module, "act_step").detach().float().clamp_min(SMALLEST_STEP))


def _high(bits: int) -> int:
    """Q_P of signed weights."""
    return levels(bits - 1)
