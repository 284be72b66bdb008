"""The clip of the KD gradient by the task's, for all parameter tensors at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rolewise.objective.base import in_layout
from rolewise.quant.kernels import dense


def clip_and_add(
    task: Sequence[Tensor | None],
    kd: Sequence[Tensor | None],
    *,
    weight: Tensor,
    sigmoid: Tensor,
    mode: str = "post_clip",
) -> tuple[list[Tensor | None], Tensor]:
    """Adds to each task gradient its KD gradient, shrunk to at most norm(task gradient) * sigmoid.

    Source: Lee et al., ECCV 2018; `weight` (lambda) multiplies after the clip ("post_clip"), before it ("pre_clip") or
    not at all ("ignored"). A KD gradient that is not finite is dropped, tensor by tensor.

    Args:
        task, kd: gradients per parameter tensor; None where a parameter does not take part.
        weight, sigmoid: scalars on the device.

    Returns:
        The sums, and the number of KD gradients that were dropped (a scalar on the device).
    """
    total: list[Tensor | None] = [
        torch.zeros_like(k) if t is None and k is not None else t for t, k in zip(task, kd, strict=True)
    ]
    pairs = [index for index, k in enumerate(kd) if k is not None]
    if not pairs:
        return total, torch.zeros_like(sigmoid)
    base = [one for index in pairs if (one := total[index]) is not None]
    extra = [one for index in pairs if (one := kd[index]) is not None]
    base_norms = torch.stack(torch._foreach_norm(base))
    extra_norms = torch.stack(torch._foreach_norm(extra))
    finite = torch.isfinite(extra_norms)
    if mode == "pre_clip":
        extra_norms = extra_norms * weight
    bound = base_norms * sigmoid
    tiny = torch.finfo(bound.dtype).tiny  # where both norms are 0
    scale = bound / torch.maximum(extra_norms, bound).clamp_min(tiny)
    if mode != "ignored":
        scale = scale * weight
    scale = torch.where(finite, scale, torch.zeros_like(scale))
    scaled = _add_flat if _are_flat([*base, *extra]) else _add_each
    for index, sum_ in zip(pairs, scaled(base, extra, scale, finite), strict=True):
        total[index] = sum_
    return total, (~finite).sum().to(sigmoid.dtype)


def _add_each(base: list[Tensor], extra: list[Tensor], scale: Tensor, finite: Tensor) -> list[Tensor]:
    """base + scale * extra, tensor by tensor; 0 * NaN is NaN, so the values are masked too."""
    zeros = [torch.zeros((), dtype=one.dtype, device=one.device) for one in extra]
    clean = [torch.where(keep, one, zero) for keep, one, zero in zip(finite, extra, zeros, strict=True)]
    return [torch.addcmul(*parts) for parts in zip(base, clean, scale, strict=True)]


def _are_flat(tensors: list[Tensor]) -> bool:
    """Whether `_add_flat` takes them and gains: on a GPU launches count, on a CPU passes through memory."""
    return all(one.is_cuda and one.dtype == torch.float32 and dense(one) for one in tensors)


def _add_flat(base: list[Tensor], extra: list[Tensor], scale: Tensor, _finite: Tensor) -> list[Tensor]:
    """`_add_each` of all tensors at once, in a handful of launches; the sums share their memory."""
    extra = [in_layout(one, like) for one, like in zip(extra, base, strict=True)]
    flat, clean = (
        torch.cat([one.as_strided((one.numel(),), (1,)) for one in side]) for side in (base, extra)
    )
    # A tensor whose norm is finite has no other values, and the scale of others is 0.
    clean.nan_to_num_(0, 0, 0)
    flat.addcmul_(clean, torch.cat([s.expand(one.numel()) for s, one in zip(scale, base, strict=True)]))
    parts = torch.split(flat, [one.numel() for one in base])
    return [part.as_strided(one.shape, one.stride()) for part, one in zip(parts, base, strict=True)]
