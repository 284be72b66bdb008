# mypy: ignore-errors
"""Triton's form of `rolewise.quant.kernels`: kernels, and how they are launched.

Products and sums are not fused (`enable_fp_fusion=False`) and divisions are exact, so that levels equal the plain
form's bit for bit. Adding and taking off 1.5 * 2^23 rounds half to even, as `torch.round` does.
"""

import torch
import triton
import triton.language as tl

from rolewise.quant.kernels import BLOCK

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
