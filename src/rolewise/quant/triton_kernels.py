# mypy: ignore-errors
"""Triton's form of `rolewise.quant.kernels`: kernels, and how they are launched.

Products and sums are not fused (`enable_fp_fusion=False`) and divisions are exact, so that levels equal the plain
form's bit for bit. Adding and taking off 1.5 * 2^23 rounds half to even, as `torch.round` does.
"""

import torch
import triton
import triton.language as tl

from rolewise.quant.kernels import BLOCK, PART, SMALLEST_CLIP, SMALLEST_STEP

_MAGIC = tl.constexpr(12582912.0)


@triton.jit
def _round(x):
    return (x + _MAGIC) - _MAGIC


@triton.jit
def _activation_levels(x_ptr, out_ptr, count, n, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    x = tl.load(x_ptr + index, mask=inside, other=0.0).to(tl.float32)
    x = tl.where(x > 1.0, 1.0, tl.where(x < 0.0, 0.0, x))  # NaN stays
    level = tl.div_rn(_round(x * n), n + 0.0 * x)
    tl.store(out_ptr + index, level.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _some(count, BLOCK: tl.constexpr):
    """Positions of this program's entries, and which of them exist."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return index, index < count


@triton.jit
def _scaled(x_ptr, index, inside, step_ptr, smallest):
    """x/s and s, both for each entry."""
    x = tl.load(x_ptr + index, mask=inside, other=0.0).to(tl.float32)
    step = tl.load(step_ptr).to(tl.float32)
    step = tl.where(step < smallest, smallest, step) + tl.where(inside, 0.0, 0.0)
    return tl.div_rn(x, step), step


@triton.jit
def _clipped(x, low, high):
    """NaN stays."""
    return tl.where(x > high, high, tl.where(x < low, low, x))


@triton.jit
def _step_levels(x_ptr, step_ptr, out_ptr, count, low, high, smallest, BLOCK: tl.constexpr):
    index, inside = _some(count, BLOCK)
    scaled, step = _scaled(x_ptr, index, inside, step_ptr, smallest)
    level = _round(_clipped(scaled, low, high)) * step
    tl.store(out_ptr + index, level.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _step_gradient(
    grad_ptr, x_ptr, step_ptr, out_ptr, sums_ptr, count, low, high, smallest, scale, BLOCK: tl.constexpr
):
    index, inside = _some(count, BLOCK)
    scaled, _step = _scaled(x_ptr, index, inside, step_ptr, smallest)
    grad = tl.load(grad_ptr + index, mask=inside, other=0.0).to(tl.float32)
    outside = (scaled <= low) | (scaled >= high)
    slope = _round(_clipped(scaled, low, high)) - tl.where(outside, 0.0, scaled)
    tl.store(out_ptr + index, tl.where(outside, 0.0, grad).to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(tl.where(inside, grad * slope, 0.0), 0) * scale)


@triton.jit
def _clip_levels(x_ptr, clip_ptr, out_ptr, count, n, smallest, BLOCK: tl.constexpr):
    index, inside = _some(count, BLOCK)
    x = tl.load(x_ptr + index, mask=inside, other=0.0).to(tl.float32)
    bound = tl.load(clip_ptr).to(tl.float32)
    bound = tl.where(bound < smallest, smallest, bound) + tl.where(inside, 0.0, 0.0)
    step = tl.div_rn(bound, n + tl.where(inside, 0.0, 0.0))
    level = _round(tl.div_rn(_clipped(x, 0.0, bound), step)) * step
    tl.store(out_ptr + index, level.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _clip_gradient(grad_ptr, x_ptr, clip_ptr, out_ptr, sums_ptr, count, smallest, BLOCK: tl.constexpr):
    index, inside = _some(count, BLOCK)
    x = tl.load(x_ptr + index, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + index, mask=inside, other=0.0).to(tl.float32)
    bound = tl.load(clip_ptr).to(tl.float32)
    beyond = x >= tl.where(bound < smallest, smallest, bound)
    passed = tl.where((x >= 0.0) & ~beyond, grad, 0.0)
    tl.store(out_ptr + index, passed.to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(tl.where(inside & beyond, grad, 0.0), 0))


@triton.jit
def _entries(table_ptr, BLOCK: tl.constexpr):
    """Positions of this program's block, which of them exist, and the layer's first and last block."""
    row = table_ptr + 4 * tl.program_id(0)
    index = tl.load(row) + tl.arange(0, BLOCK)
    return index, index < tl.load(row + 1), tl.load(row + 2), tl.load(row + 3)


@triton.jit
def _of_layer(values_ptr, first, last, CHUNK: tl.constexpr):
    """One value per block of the layer, 0 elsewhere."""
    index = first + tl.arange(0, CHUNK)
    return tl.load(values_ptr + index, mask=index < last, other=0.0)


@triton.jit
def _inverse(maximum):
    """1/m, and 0 for m = 0."""
    return tl.where(maximum > 0.0, tl.div_rn(1.0 + 0.0 * maximum, tl.where(maximum > 0.0, maximum, 1.0)), 0.0)


@triton.jit
def _block_maxima(tanh_ptr, table_ptr, out_ptr, BLOCK: tl.constexpr):
    index, inside, _first, _last = _entries(table_ptr, BLOCK)
    tanh = tl.load(tanh_ptr + index, mask=inside, other=0.0)
    tl.store(out_ptr + tl.program_id(0), tl.max(tl.abs(tanh), 0))


@triton.jit
def _weight_levels(
    tanh_ptr, maxima_ptr, table_ptr, steps_ptr, out_ptr, BLOCK: tl.constexpr, CHUNK: tl.constexpr
):
    index, inside, first, last = _entries(table_ptr, BLOCK)
    tanh = tl.load(tanh_ptr + index, mask=inside, other=0.0)
    inverse = _inverse(tl.max(_of_layer(maxima_ptr, first, last, CHUNK), 0))
    half = tl.load(steps_ptr + 2 * tl.program_id(0))
    step = tl.load(steps_ptr + 2 * tl.program_id(0) + 1)
    level = _round(tanh * (inverse * half) + half) * step - 1.0
    tl.store(out_ptr + index, level.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _block_sums(
    grad_ptr, tanh_ptr, maxima_ptr, table_ptr, out_ptr, blocks, BLOCK: tl.constexpr, CHUNK: tl.constexpr
):
    index, inside, first, last = _entries(table_ptr, BLOCK)
    grad = tl.load(grad_ptr + index, mask=inside, other=0.0).to(tl.float32)
    tanh = tl.load(tanh_ptr + index, mask=inside, other=0.0)
    maximum = tl.max(_of_layer(maxima_ptr, first, last, CHUNK), 0)
    at_maximum = (tl.abs(tanh) == maximum) & (tanh != 0.0)
    tl.store(out_ptr + tl.program_id(0), tl.sum(grad * tanh, 0))
    tl.store(out_ptr + blocks + tl.program_id(0), tl.sum(at_maximum.to(tl.float32), 0))


@triton.jit
def _weight_gradient(
    grad_ptr,
    tanh_ptr,
    maxima_ptr,
    sums_ptr,
    table_ptr,
    out_ptr,
    blocks,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    index, inside, first, last = _entries(table_ptr, BLOCK)
    grad = tl.load(grad_ptr + index, mask=inside, other=0.0).to(tl.float32)
    tanh = tl.load(tanh_ptr + index, mask=inside, other=0.0)
    maximum = tl.max(_of_layer(maxima_ptr, first, last, CHUNK), 0)
    inverse = _inverse(maximum)
    total = tl.sum(_of_layer(sums_ptr, first, last, CHUNK), 0)
    count = tl.maximum(tl.sum(_of_layer(sums_ptr + blocks, first, last, CHUNK), 0), 1.0)
    share = tl.div_rn(total * (inverse * inverse), count)
    sign = tl.where(tanh > 0.0, 1.0, tl.where(tanh < 0.0, -1.0, 0.0))
    found = grad * inverse - tl.where(tl.abs(tanh) == maximum, sign, 0.0) * share
    tl.store(out_ptr + index, found * (1.0 - tanh * tanh), mask=inside)


_EXACT = {"enable_fp_fusion": False, "num_warps": 8}


def activation_levels(x, n):
    out = torch.empty_like(x)
    size = 1024
    if x.numel():
        _activation_levels[(triton.cdiv(x.numel(), size),)](
            x, out, x.numel(), float(n), BLOCK=size, enable_fp_fusion=False, num_warps=4
        )
    return out


_PARTS = {"BLOCK": PART, "enable_fp_fusion": False, "num_warps": 4}


def step_levels(x, step, low, high):
    out = torch.empty_like(x)
    if x.numel():
        numbers = x.numel(), float(low), float(high), SMALLEST_STEP
        _step_levels[(triton.cdiv(x.numel(), PART),)](x, step, out, *numbers, **_PARTS)
    return out


def step_gradient(grad, x, step, low, high, scale):
    out, sums = torch.empty_like(grad), step.new_empty(triton.cdiv(x.numel(), PART))
    if x.numel():
        numbers = x.numel(), float(low), float(high), SMALLEST_STEP, scale
        _step_gradient[(len(sums),)](grad, x, step, out, sums, *numbers, **_PARTS)
    return out, sums


def clip_levels(x, clip, n):
    out = torch.empty_like(x)
    if x.numel():
        grid = (triton.cdiv(x.numel(), PART),)
        _clip_levels[grid](x, clip, out, x.numel(), float(n), SMALLEST_CLIP, **_PARTS)
    return out


def clip_gradient(grad, x, clip):
    out, sums = torch.empty_like(grad), clip.new_empty(triton.cdiv(x.numel(), PART))
    if x.numel():
        _clip_gradient[(len(sums),)](grad, x, clip, out, sums, x.numel(), SMALLEST_CLIP, **_PARTS)
    return out, sums


def block_maxima(tanh, table):
    out = tanh.new_empty(table.shape[0])
    _block_maxima[(len(table),)](tanh, table, out, BLOCK=BLOCK, **_EXACT)
    return out


def weight_levels(tanh, maxima, table, steps, chunk, dtype):
    out = torch.empty_like(tanh, dtype=dtype)
    _weight_levels[(len(table),)](tanh, maxima, table, steps, out, BLOCK=BLOCK, CHUNK=chunk, **_EXACT)
    return out


def block_sums(grad, tanh, maxima, table, chunk):
    out = tanh.new_empty(2, table.shape[0])
    _block_sums[(len(table),)](grad, tanh, maxima, table, out, len(table), BLOCK=BLOCK, CHUNK=chunk, **_EXACT)
    return out


def weight_gradient(grad, tanh, maxima, sums, table, chunk):
    out = torch.empty_like(tanh)
    _weight_gradient[(len(table),)](
        grad, tanh, maxima, sums, table, out, len(table), BLOCK=BLOCK, CHUNK=chunk, **_EXACT
    )
    return out
