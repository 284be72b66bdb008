"""The quantizers' kernels for CUDA, each an operator `rolewise::NAME` of PyTorch's dispatcher.

On a GPU a step of a low-bit network is launches, not work. Here an activation is quantized in one kernel, and the
weights of all layers in two, from one flat tensor. An operator has three forms: Triton's kernel for CUDA, the shapes
for tracing, and the plain form, which is the reference and is what a CPU takes.

The flat tensor of all weights is cut into blocks of at most `BLOCK` entries, none of which crosses a border between two
layers. `Table` holds, per block: start, end, first and last block of the layer (the last one excluded). Sums and maxima
are made per block and finished, in a fixed order, by the kernel that reads them: no atomics, so the same bytes each
time. `chunk`, a power of two, is at least the number of blocks of the largest layer.
"""

import importlib.util
import warnings
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from rolewise.errors import first_line

BLOCK = 4096
PART = 1024  # entries of an activation whose sum is one of the partial sums
SMALLEST_STEP, SMALLEST_CLIP = 1e-8, 1e-6  # what training drives below counts as these
LARGEST = 8192 * BLOCK  # weights of a layer: the maxima of its blocks are read at once

Flat = Float[Tensor, " n"]
PerBlock = Float[Tensor, " b"]
Table = Int32[Tensor, "b 4"]
Steps = Float[Tensor, "b 2"]  # n/2 and 2/n of the block's layer, n = 2^bits - 1

_LIBRARY = torch.library.Library("rolewise", "FRAGMENT")  # type: ignore[no-untyped-call]
_SCHEMAS = {
    "snapshot": "(Tensor x) -> Tensor",
    "activation_levels": "(Tensor x, int n) -> Tensor",
    "step_levels": "(Tensor x, Tensor step, int low, int high) -> Tensor",
    "step_gradient": "(Tensor grad, Tensor x, Tensor step, int low, int high, float scale) -> (Tensor, Tensor)",
    "clip_levels": "(Tensor x, Tensor clip, int n) -> Tensor",
    "clip_gradient": "(Tensor grad, Tensor x, Tensor clip) -> (Tensor, Tensor)",
    "block_maxima": "(Tensor tanh, Tensor table) -> Tensor",
    "weight_levels": "(Tensor tanh, Tensor maxima, Tensor table, Tensor steps, int chunk, ScalarType dtype) -> Tensor",
    "block_sums": "(Tensor grad, Tensor tanh, Tensor maxima, Tensor table, int chunk) -> Tensor",
    "weight_gradient": "(Tensor grad, Tensor tanh, Tensor maxima, Tensor sums, Tensor table, int chunk) -> Tensor",
}


def usable(x: Tensor) -> bool:
    """Whether the kernels take `x`: a CUDA tensor of at most 32 bits an entry, and Triton works there."""
    return x.is_cuda and x.dtype.itemsize <= 4 and x.numel() < 1 << 31 and _triton_works(x.device)


@lru_cache
def _triton_works(device: torch.device) -> bool:
    """Whether Triton is installed and compiles, which needs a C compiler; said once if not."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        with torch.inference_mode(False), torch.no_grad():
            activation_levels(torch.zeros(1, device=device), 1)
    except Exception as error:  # a missing compiler, a header, a driver: all of them mean "not here"
        reason = first_line(error)
        warnings.warn(
            f"Triton does not work on this machine ({reason}), so low-bit layers are quantized by many small "
            "kernels. A C compiler is what it usually lacks.",
            stacklevel=2,
        )
        return False
    return True


def snapshot(x: Tensor) -> Tensor:
    """A copy that compilers do not look through: one of a buffer that changes later, read in the backward pass.

    A plain `clone` is made from the buffer again there, after it has changed.
    """
    found: Tensor = torch.ops.rolewise.snapshot(x)
    return found


def activation_levels(x: Float[Tensor, "..."], n: int) -> Float[Tensor, "..."]:
    """round(n clip(x, 0, 1)) / n in the type of `x`, half to even, computed in float32 and rounded once."""
    found: Tensor = torch.ops.rolewise.activation_levels(x if dense(x) else x.contiguous(), n)
    return found


def step_levels(x: Float[Tensor, "..."], step: Tensor, low: int, high: int) -> Float[Tensor, "..."]:
    """round(clip(x/s, low, high)) s in the type of `x`, computed in float32; `x` as `dense` wants it."""
    found: Tensor = torch.ops.rolewise.step_levels(x, step, low, high)
    return found


def step_gradient(
    grad: Float[Tensor, "..."], x: Float[Tensor, "..."], step: Tensor, low: int, high: int, scale: float
) -> tuple[Tensor, Tensor]:
    """The gradient of `x`, and parts whose sum is `scale` times that of the step; `grad` lies in memory as `x` does."""
    found: tuple[Tensor, Tensor] = torch.ops.rolewise.step_gradient(grad, x, step, low, high, scale)
    return found


def clip_levels(x: Float[Tensor, "..."], clip: Tensor, n: int) -> Float[Tensor, "..."]:
    """round(n clip(x, 0, c) / c) c / n in the type of `x`, computed in float32; `x` as `dense` wants it."""
    found: Tensor = torch.ops.rolewise.clip_levels(x, clip, n)
    return found


def clip_gradient(grad: Float[Tensor, "..."], x: Float[Tensor, "..."], clip: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of `x`, and parts whose sum is that of the bound; `grad` lies in memory as `x` does."""
    found: tuple[Tensor, Tensor] = torch.ops.rolewise.clip_gradient(grad, x, clip)
    return found


def block_maxima(tanh: Flat, table: Table) -> PerBlock:
    """max|tanh| of each block."""
    found: Tensor = torch.ops.rolewise.block_maxima(tanh, table)
    return found


def weight_levels(
    tanh: Flat, maxima: PerBlock, table: Table, steps: Steps, chunk: int, dtype: torch.dtype
) -> Flat:
    """round(t (n/2) / m + n/2) (2/n) - 1, m the maximum over the layer, rounded to `dtype` at the end."""
    found: Tensor = torch.ops.rolewise.weight_levels(tanh, maxima, table, steps, chunk, dtype)
    return found


def block_sums(grad: Flat, tanh: Flat, maxima: PerBlock, table: Table, chunk: int) -> Float[Tensor, "2 b"]:
    """The sum of grad * tanh of each block, and how many of its entries have the layer's maximum."""
    found: Tensor = torch.ops.rolewise.block_sums(grad, tanh, maxima, table, chunk)
    return found


def weight_gradient(
    grad: Flat, tanh: Flat, maxima: PerBlock, sums: Float[Tensor, "2 b"], table: Table, chunk: int
) -> Flat:
    """The gradient of the float weights: the formula of `dorefa._Weights`, in float32."""
    found: Tensor = torch.ops.rolewise.weight_gradient(grad, tanh, maxima, sums, table, chunk)
    return found


def dense(x: Tensor) -> bool:
    """Whether the entries lie in memory without gaps, in one of the two usual orders."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


# The plain forms.


def _layers(table: Tensor) -> list[tuple[slice, slice]]:
    """The entries and the blocks of each layer."""
    rows = table.tolist()
    found = {(first, last): None for _, _, first, last in rows}
    return [(slice(rows[first][0], rows[last - 1][1]), slice(first, last)) for first, last in found]


def _plain_activation_levels(x: Tensor, n: int) -> Tensor:
    return x.float().clamp(0, 1).mul_(n).round_().div_(n).to(x.dtype)


def _plain_step_levels(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    safe = step.clamp_min(SMALLEST_STEP)
    # Adding 0 turns -0 into +0; integer codes cannot distinguish them.
    return (x.float() / safe).clamp_(low, high).round_().add_(0).mul_(safe).to(x.dtype)


def _plain_step_gradient(
    grad: Tensor, x: Tensor, step: Tensor, low: int, high: int, scale: float
) -> tuple[Tensor, Tensor]:
    scaled = x.float() / step.clamp_min(SMALLEST_STEP)
    outside = (scaled <= low) | (scaled >= high)
    slope = scaled.clamp(low, high).round_() - scaled.masked_fill(outside, 0)
    return torch.where(outside, 0, grad), (grad.float() * slope).sum().mul(scale).reshape(1)


def _plain_clip_levels(x: Tensor, clip: Tensor, n: int) -> Tensor:
    bound = clip.clamp_min(SMALLEST_CLIP)
    step = bound / n
    return torch.minimum(x.float().clamp_min(0), bound).div_(step).round_().mul_(step).to(x.dtype)


def _plain_clip_gradient(grad: Tensor, x: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
    wide = x.float()
    beyond = wide >= clip.clamp_min(SMALLEST_CLIP)
    passed = torch.where((wide >= 0) & ~beyond, grad, 0)
    return passed, torch.where(beyond, grad, 0).float().sum().reshape(1)


def _plain_block_maxima(tanh: Tensor, table: Tensor) -> Tensor:
    return torch.stack([tanh[start:end].abs().amax() for start, end, _, _ in table.tolist()])


def _plain_weight_levels(
    tanh: Tensor, maxima: Tensor, table: Tensor, steps: Tensor, chunk: int, dtype: torch.dtype
) -> Tensor:
    parts = []
    for entries, blocks in _layers(table):
        maximum, (half, step) = maxima[blocks].amax(), steps[blocks.start]
        inverse = torch.where(maximum > 0, 1 / maximum, 0)
        parts.append((tanh[entries] * (inverse * half) + half).round_() * step - 1)
    return torch.cat(parts).to(dtype)


def _plain_block_sums(grad: Tensor, tanh: Tensor, maxima: Tensor, table: Tensor, chunk: int) -> Tensor:
    products, counts = [], []
    for start, end, first, last in table.tolist():
        part, maximum = tanh[start:end], maxima[first:last].amax()
        products.append((grad[start:end].float() * part).sum())
        counts.append(((part.abs() == maximum) & (part != 0)).sum().float())
    return torch.stack((torch.stack(products), torch.stack(counts)))


def _plain_weight_gradient(
    grad: Tensor, tanh: Tensor, maxima: Tensor, sums: Tensor, table: Tensor, chunk: int
) -> Tensor:
    parts = []
    for entries, blocks in _layers(table):
        part, maximum = tanh[entries], maxima[blocks].amax()
        inverse = torch.where(maximum > 0, 1 / maximum, 0)
        total, count = sums[:, blocks].sum(1)
        share = total * inverse.square() / count.clamp_min(1)
        at_maximum = torch.where(part.abs() == maximum, part.sign(), 0)
        parts.append((grad[entries].float() * inverse - at_maximum * share) * (1 - part * part))
    return torch.cat(parts)


# The shapes.


def _shape_of_maxima(tanh: Tensor, table: Tensor) -> Tensor:
    return tanh.new_empty(table.shape[0])


def _shape_of_levels(
    tanh: Tensor, maxima: Tensor, table: Tensor, steps: Tensor, chunk: int, dtype: torch.dtype
) -> Tensor:
    return torch.empty_like(tanh, dtype=dtype)


def _shape_of_sums(grad: Tensor, tanh: Tensor, maxima: Tensor, table: Tensor, chunk: int) -> Tensor:
    return tanh.new_empty(2, table.shape[0])


def _shape_of_gradient(
    grad: Tensor, tanh: Tensor, maxima: Tensor, sums: Tensor, table: Tensor, chunk: int
) -> Tensor:
    return torch.empty_like(tanh)


def _shape_of_activation(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _shape_of_parts(grad: Tensor, x: Tensor, step: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad), step.new_empty(-(-x.numel() // PART))


def _on_cuda(name: str) -> Any:
    """Triton's form, imported when it is first called: importing Triton takes a second."""

    if name == "snapshot":
        return torch.clone

    def launch(*arguments: Any) -> Any:
        from rolewise.quant import triton_kernels

        return getattr(triton_kernels, name)(*arguments)

    return launch


_FORMS = {
    "snapshot": (torch.clone, torch.clone),
    "activation_levels": (_plain_activation_levels, _shape_of_activation),
    "step_levels": (_plain_step_levels, _shape_of_activation),
    "step_gradient": (_plain_step_gradient, _shape_of_parts),
    "clip_levels": (_plain_clip_levels, _shape_of_activation),
    "clip_gradient": (_plain_clip_gradient, _shape_of_parts),
    "block_maxima": (_plain_block_maxima, _shape_of_maxima),
    "weight_levels": (_plain_weight_levels, _shape_of_levels),
    "block_sums": (_plain_block_sums, _shape_of_sums),
    "weight_gradient": (_plain_weight_gradient, _shape_of_gradient),
}
for _name, (_plain, _shape) in _FORMS.items():
    _LIBRARY.define(_name + _SCHEMAS[_name])  # type: ignore[no-untyped-call]
    _LIBRARY.impl(_name, _plain, "CPU")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(_name, _on_cuda(_name), "CUDA")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(_name, _shape, "Meta")  # type: ignore[no-untyped-call]
