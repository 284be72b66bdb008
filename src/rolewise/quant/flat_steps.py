"""LSQ's weights of all layers at once: some 25 launches a step instead of 16 a layer.

The weights lie one after the other in rows of `BLOCK` entries, none of which crosses a border between two layers; what
a layer leaves free in its last row is zero. So a step is a number a row, and a layer's sum one of rows' sums.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from rolewise.bits import levels
from rolewise.quant.flat import aligned, in_memory_order, remembered
from rolewise.quant.kernels import BLOCK, SMALLEST_STEP


@dataclass(frozen=True)
class StepLayout:
    """How the rows belong to the layers.

    Args:
        free: zeros that fill a layer's last row, as many as there can be.
        counts: number of rows of each layer.
        owner: the layer of each row.
        members: 1 where a row belongs to a layer.
        low, high: integer bounds of each row's layer.
        scale: factor of each step's gradient.
        zero: the number 0, which `torch.where` would have to make.
    """

    free: Float[Tensor, " block"]
    counts: Sequence[int]
    owner: Int64[Tensor, " rows"]
    members: Float[Tensor, "layers rows"]
    low: Float[Tensor, "rows 1"]
    high: Float[Tensor, "rows 1"]
    scale: Float[Tensor, " layers"]
    zero: Float[Tensor, ""]


def make_step_layout(sizes: Sequence[int], bits: Sequence[int], device: torch.device) -> StepLayout:
    """The layout of layers with so many weights and bits."""
    counts = [-(-size // BLOCK) for size in sizes]
    highs = [levels(width - 1) for width in bits]
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(counts))
    high = torch.tensor(highs, dtype=torch.float32)[owner].unsqueeze(1)
    scale = torch.tensor([1 / math.sqrt(size * top) for size, top in zip(sizes, highs, strict=True)])
    return StepLayout(
        torch.zeros(BLOCK, device=device),
        counts,
        owner.to(device),
        torch.nn.functional.one_hot(owner, len(sizes)).T.float().to(device),
        (-high - 1).to(device),
        high.to(device),
        scale.to(device),
        torch.zeros((), device=device),
    )


def lsq_together(layers: Sequence[Any], dtype: torch.dtype, layouts: dict[Any, Any]) -> tuple[Tensor, ...]:
    """The layers' weights as LSQ quantizes them, see `base.Together`."""
    layout = remembered(layers, layouts, make_step_layout)
    weights = [layer.float_weight() for layer in layers]
    found: tuple[Tensor, ...] = _StepsTogether.apply(  # type: ignore[no-untyped-call]
        layout, dtype, *weights, *(layer.weight_step for layer in layers)
    )
    return found


class _StepsTogether(torch.autograd.Function):
    """`lsq._LearnedStep` of several layers; the formulas are the same, so is the order of rounding."""

    @staticmethod
    def forward(ctx: Any, layout: StepLayout, dtype: torch.dtype, *given: Tensor) -> tuple[Tensor, ...]:
        weights, steps = given[: len(given) // 2], given[len(given) // 2 :]
        ctx.layout, ctx.like = layout, [(one.shape, one.stride()) for one in weights]
        ctx.types = weights[0].dtype, steps[0].dtype
        ctx.set_materialize_grads(False)
        rows = _rows([in_memory_order(one) for one in weights], layout).float()
        safe = torch.stack(steps).float().clamp_min_(SMALLEST_STEP)[layout.owner].unsqueeze(1)
        scaled = rows.div_(safe)
        ctx.save_for_backward(scaled)
        # Adding 0 turns -0 into +0; integer codes cannot distinguish them.
        quantized = scaled.clamp(layout.low, layout.high).round_().add_(0).mul_(safe).to(dtype)
        return _cut(quantized, ctx.like, layout)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (scaled,), layout = ctx.saved_tensors, ctx.layout
        dtype = next(one.dtype for one in grads if one is not None)
        flat = [
            layout.zero.to(dtype).expand(shape.numel()) if one is None else aligned(one, shape, strides)
            for one, (shape, strides) in zip(grads, ctx.like, strict=True)
        ]
        grad = _rows(flat, layout).float()
        outside = (scaled <= layout.low) | (scaled >= layout.high)
        slope = scaled.clamp(layout.low, layout.high).round_().sub_(torch.where(outside, layout.zero, scaled))
        sums = (layout.members * slope.mul_(grad).sum(1)).sum(1) * layout.scale
        found = _cut(torch.where(outside, layout.zero, grad).to(ctx.types[0]), ctx.like, layout)
        steps = sums.to(ctx.types[1]).unbind()
        missing = [one is None for one in grads] * 2
        both = zip(missing, (*found, *steps), strict=True)
        return (None, None, *(None if gone else one for gone, one in both))


def _rows(flat: Sequence[Tensor], layout: StepLayout) -> Float[Tensor, "rows block"]:
    """One-dimensional tensors of the layers' sizes, a layer after the other."""
    free = layout.free.to(flat[0].dtype)
    parts = [
        part
        for one, count in zip(flat, layout.counts, strict=True)
        for part in (one, free[: count * BLOCK - one.numel()])
    ]
    return torch.cat(parts).view(-1, BLOCK)


def _cut(
    rows: Tensor, like: Sequence[tuple[torch.Size, tuple[int, ...]]], layout: StepLayout
) -> tuple[Tensor, ...]:
    starts = [BLOCK * sum(layout.counts[:index]) for index in range(len(like))]
    return tuple(
        rows.as_strided(shape, strides, start) for (shape, strides), start in zip(like, starts, strict=True)
    )
