"""The weights of all layers at once, from one flat tensor: DoReFa's in seven launches a step instead of 26 a layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rolewise.bits import levels
from rolewise.quant import kernels

L = TypeVar("L")


@dataclass(frozen=True)
class Layout:
    """How the flat tensor is cut, see `rolewise.quant.kernels`.

    Args:
        table: start, end, first and last block of the layer, per block.
        steps: n/2 and 2/n of the block's layer.
        chunk: power of two that is no less than the number of blocks of a layer.
    """

    table: kernels.Table
    steps: kernels.Steps
    chunk: int


def make_layout(sizes: Sequence[int], bits: Sequence[int], device: torch.device) -> Layout:
    """The layout of layers with so many weights and bits."""
    rows: list[tuple[int, int, int, int]] = []
    steps: list[tuple[float, float]] = []
    offset = 0
    for size, width in zip(sizes, bits, strict=True):
        first, count, n = len(rows), -(-size // kernels.BLOCK), levels(width)
        starts = range(offset, offset + size, kernels.BLOCK)
        rows += [(start, min(start + kernels.BLOCK, offset + size), first, first + count) for start in starts]
        steps += [(n / 2, 2 / n)] * count
        offset += size
    return Layout(
        torch.tensor(rows, dtype=torch.int32, device=device),
        torch.tensor(steps, dtype=torch.float32, device=device),
        max(16, 1 << (max(last - first for _, _, first, last in rows) - 1).bit_length()),
    )


def fits(weights: Sequence[Tensor]) -> bool:
    """Whether the kernels take these weights together: one device, one type, each without gaps in its memory."""
    first = weights[0]
    return (
        kernels.usable(first)
        and all(one.device == first.device and one.dtype == first.dtype for one in weights)
        and all(kernels.dense(one) for one in weights)
        and sum(one.numel() for one in weights) < 1 << 31
        and all(0 < one.numel() <= kernels.LARGEST for one in weights)
    )


def remembered(layers: Sequence[Any], layouts: dict[Any, Any], make: Callable[..., L]) -> L:
    """The layout that `make` gives for the sizes and bits of these layers, made once and kept in `layouts`."""
    weights = [layer.float_weight() for layer in layers]
    sizes, bits, device = (
        [one.numel() for one in weights],
        [layer.weight_bits for layer in layers],
        weights[0].device,
    )
    key = (make, device, *sizes, *bits)
    if key not in layouts:
        with torch.inference_mode(False):  # a later pass with gradients could not save an inference tensor
            layouts[key] = make(sizes, bits, device)
    found: L = layouts[key]
    return found


def dorefa_together(layers: Sequence[Any], dtype: torch.dtype, layouts: dict[Any, Any]) -> tuple[Tensor, ...]:
    """The layers' weights as DoReFa quantizes them, see `base.Together`."""
    weights = [layer.float_weight() for layer in layers]
    return quantize_together(weights, remembered(layers, layouts, make_layout), dtype)


def quantize_together(weights: Sequence[Tensor], layout: Layout, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The quantized weights, differentiable.

    Args:
        weights: weights of several layers, as `fits` requires them.
        layout: layout of these weights.
        dtype: type of the result; the levels are rounded to it once, as a cast would.
    """
    found: tuple[Tensor, ...] = _Together.apply(layout, dtype, *weights)  # type: ignore[no-untyped-call]
    return found


class _Together(torch.autograd.Function):
    """`dorefa._Weights` of several layers; the formulas are the same, so is the order of rounding."""

    @staticmethod
    def forward(ctx: Any, layout: Layout, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        tanh = torch.cat([in_memory_order(one) for one in weights]).float().tanh_()
        maxima = kernels.block_maxima(tanh, layout.table)
        ctx.save_for_backward(tanh, maxima)
        ctx.layout, ctx.like = layout, [(one.shape, one.stride()) for one in weights]
        ctx.dtype = weights[0].dtype
        ctx.set_materialize_grads(False)
        return _cut(
            kernels.weight_levels(tanh, maxima, layout.table, layout.steps, layout.chunk, dtype), ctx.like
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        tanh, maxima = ctx.saved_tensors
        table, chunk = ctx.layout.table, ctx.layout.chunk
        dtype = next(one.dtype for one in grads if one is not None)
        flat = torch.cat(
            [
                tanh.new_zeros(shape.numel(), dtype=dtype) if one is None else aligned(one, shape, strides)
                for one, (shape, strides) in zip(grads, ctx.like, strict=True)
            ]
        )
        sums = kernels.block_sums(flat, tanh, maxima, table, chunk)
        found = _cut(kernels.weight_gradient(flat, tanh, maxima, sums, table, chunk).to(ctx.dtype), ctx.like)
        return (None, None, *(None if one is None else part for one, part in zip(grads, found, strict=True)))


def in_memory_order(x: Tensor) -> Tensor:
    """All entries of a tensor without gaps, as they lie in memory."""
    return x.as_strided((x.numel(),), (1,))


def aligned(grad: Tensor, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """The gradient's entries in the order in which the weight's lie in memory."""
    if _strides(grad) != _strides(grad, strides):
        grad = torch.empty_strided(shape, strides, dtype=grad.dtype, device=grad.device).copy_(grad)
    return in_memory_order(grad)


def aligned_as(like: Tensor, grad: Tensor) -> Tensor:
    """`grad`, whose entries lie in memory as those of `like` do."""
    if _strides(grad) == _strides(grad, like.stride()):
        return grad
    return torch.empty_like(like, dtype=grad.dtype).copy_(grad)


def _strides(x: Tensor, strides: tuple[int, ...] | None = None) -> list[int]:
    """The strides that matter: those of dimensions with more than one entry."""
    found = x.stride() if strides is None else strides
    return [stride for size, stride in zip(x.shape, found, strict=True) if size > 1]


def _cut(flat: Tensor, like: Sequence[tuple[torch.Size, tuple[int, ...]]]) -> tuple[Tensor, ...]:
    parts, offset = [], 0
    for shape, strides in like:
        parts.append(flat.as_strided(shape, strides, offset))
        offset += shape.numel()
    return tuple(parts)
