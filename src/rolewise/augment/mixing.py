"""Mixup and CutMix: images of a finished batch mixed in pairs, on the batch's device.

The random numbers are functions of (seed, epoch, id), drawn on the CPU together with the other augmentation; the pixels
are mixed where the batch lies. Nothing waits for the device, and all shapes are static.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int32, Int64
from torch import Tensor

from rolewise.errors import InputError, InputTypeError
from rolewise.seeds import numpy_generator


class MixDraws(NamedTuple):
    """One epoch's random numbers, one row an image.

    Fields:
        shares: lambda of Mixup and of CutMix, Beta distributed.
        uniform: over [0, 1): x and y of the box's center, which kind, whether at all.
    """

    shares: Float64[np.ndarray, "n 2"]
    uniform: Float64[np.ndarray, "n 4"]


class MixPlan(NamedTuple):
    """How each image of a batch is mixed with its partner.

    Fields:
        weight: weight of the image outside the box; the partner has the rest. 1 with CutMix, lambda with Mixup.
        box: left, top, right, bottom (one past the last pixel) of what is the partner's alone; empty with Mixup.
        share: share of the image in the label: lambda, or the part of the pixels outside the box.
    """

    weight: Float32[Tensor, " n"]
    box: Int32[Tensor, "n 4"]
    share: Float32[Tensor, " n"]

    def to(self, device: torch.device) -> "MixPlan":
        """On a device, without waiting for it where the memory is pinned."""
        return MixPlan(*(one.to(device, non_blocking=True) for one in self))

    def part(self, first: int, last: int) -> "MixPlan":
        """The plan of the images first..last-1."""
        return MixPlan(*(one[first:last] for one in self))


@dataclass(frozen=True)
class Mixing:
    """Mixes each image with its partner: Mixup blends the two, CutMix pastes a rectangle of the partner.

    Mixup: x = lambda x_i + (1 - lambda) x_j, lambda ~ Beta(a, a), the labels alike. CutMix: a box of sides
    sqrt(1 - lambda) times the image's, its center uniform over the image, clipped; the label's share is the part of the
    pixels that are left. Images come in pairs of neighbors in the shuffled batch, so partners are uniform at random,
    and each image draws a lambda of its own (the papers' code draws one for a batch).

    Source: Zhang et al., "mixup", ICLR 2018, eq. 1; Yun et al., "CutMix", ICCV 2019, eq. 1 and 2 and algorithm 1.

    Args:
        mixup: parameter a of Mixup's Beta distribution, above 0; None: no Mixup.
        cutmix: the same for CutMix; with both, each image takes either with probability 0.5.
        probability: part of the images that are mixed, 0 to 1.

    Raises:
        InputError: neither is on, or a number is out of range.
    """

    mixup: float | None = None
    cutmix: float | None = None
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if value is not None and not 0 < _number(name, value) < math.inf:
                raise InputError(f"`{name}` must be a finite number above 0, or None for off, got {value}.")
        if self.mixup is None and self.cutmix is None:
            raise InputError("`mixup` and `cutmix` are both None: give at least one of them.")
        if not 0 <= _number("probability", self.probability) <= 1:
            raise InputError(f"`probability` must be a number from 0 to 1, got {self.probability}.")

    def draws(self, seed: int, epoch: int, count: int) -> MixDraws:
        """The random numbers of the images with ids 0..count - 1; more images change none of them."""
        shares = [
            numpy_generator(seed, kind, epoch).beta(alpha or 1.0, alpha or 1.0, count)
            for kind, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix))
        ]
        return MixDraws(np.stack(shares, axis=1), numpy_generator(seed, "mix", epoch).random((count, 4)))

    def plan(self, draws: MixDraws, ids: Int64[Tensor, " n"], height: int, width: int) -> MixPlan:
        """What happens to the images with these ids."""
        rows = ids.numpy()
        (x, y, which, whether), shares = draws.uniform[rows].T, draws.shares[rows]
        cutting = np.full(len(rows), self.mixup is None)
        if self.mixup is not None and self.cutmix is not None:
            cutting = which < 0.5
        share = np.where(cutting, shares[:, 1], shares[:, 0])
        share = np.where(whether < self.probability, share, 1.0)
        sides = np.sqrt(1.0 - share)
        box = np.zeros((len(rows), 4), np.int32)
        for place, (center, length) in enumerate(((x, width), (y, height))):
            half, middle = (length * sides).astype(np.int64) // 2, (center * length).astype(np.int64)
            box[:, place] = np.where(cutting, np.maximum(middle - half, 0), 0)
            box[:, place + 2] = np.where(cutting, np.minimum(middle + half, length), 0)
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        weight = np.where(cutting, 1.0, share)
        share = np.where(cutting, 1.0 - area / (height * width), share)
        return MixPlan(
            torch.from_numpy(weight.astype(np.float32)),
            torch.from_numpy(box),
            torch.from_numpy(share.astype(np.float32)),
        )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputTypeError(f"`{name}` must be a number, got {value!r}.")
    return float(value)


def partners(n: int, device: torch.device) -> Int64[Tensor, " n"]:
    """Whom each image of a batch is mixed with: its neighbor in the pairs (0, 1), (2, 3), ...; a last odd one takes
    the image before it."""
    order = torch.arange(n, device=device) ^ 1
    return torch.where(order < n, order, max(0, n - 2))


def mix_images(images: Float[Tensor, "n c h w"], plan: MixPlan) -> Float[Tensor, "n c h w"]:
    """The mixed batch, in the dtype and memory format of `images`; computed in float32 and rounded once."""
    n, _, height, width = images.shape
    left, top, right, bottom = (side.view(n, 1, 1) for side in plan.box.unbind(1))
    y = torch.arange(height, device=images.device).view(1, height, 1)
    x = torch.arange(width, device=images.device).view(1, 1, width)
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    own = torch.where(inside, 0.0, plan.weight.view(n, 1, 1)).unsqueeze(1)
    other = images.index_select(0, partners(n, images.device))
    # With weights 0 and 1 this form copies pixels exactly, which other + own * (images - other) would not.
    mixed = images.float() * own + other.float() * (1 - own)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return mixed.to(images.dtype).contiguous(memory_format=layout)


def mix_labels(labels: Int64[Tensor, " n"], plan: MixPlan, classes: int) -> Float32[Tensor, "n k"]:
    """The mixed labels as probabilities: the image's share on its class, the rest on its partner's."""
    other = labels.index_select(0, partners(len(labels), labels.device)).unsqueeze(1)
    share = plan.share.unsqueeze(1)
    empty = torch.zeros(len(labels), classes, device=labels.device)
    return empty.scatter(1, labels.unsqueeze(1), share).scatter_add(1, other, 1 - share)
