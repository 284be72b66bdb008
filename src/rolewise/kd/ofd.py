"""Overhaul of feature distillation."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rolewise.errors import InputError, check_integer
from rolewise.kd._images import normalized
from rolewise.kd.base import KDLoss, Outputs, TrainingImages, check_teacher, collect, tap_names
from rolewise.kd.checks import Shapes, check_built, check_features, shapes_of
from rolewise.kd.layers import conv, same_size
from rolewise.kd.preparation import preparation


class OFD(KDLoss):
    """Feature regression that ignores what the teacher's next ReLU would cut away.

    Source: Heo et al., ICCV 2019, section 3 (margin ReLU, partial L2 distance), with the layer weights of the
    authors' code and the classic weight 1e-3 (theirs and mdistiller's):

        T' = max(T, m_c),  m_c = mean of the channel's negative responses over the training images,
        L = sum_l 2^(l - L) mean_images sum_entries { 0 where S <= T' <= 0, else (S - T')^2 }

    for layers l = 1..L, where S is the student's map behind a 1x1 convolution and batch norm.

    The margins are counted in `prepare` on `margin_images` images evenly spaced through the training set. The
    authors derive them from the preceding batch norm's bias and scale, under a normal distribution, which holds
    where a tap is that batch norm; the mean over images holds for any tap (the paper names both). Where a
    channel has no negative response, as behind a ReLU, m_c = 0: then the student is only asked not to respond
    where the teacher does not. Networks of this package are tapped before the ReLU, as in published results.

    Layers: all feature maps. The connectors bridge channels and are trained with the student; where sizes differ
    the larger map is average-pooled.

    Args:
        margin_images: number of images for the margins, >= 1.
    Shape:
        maps (n, c, h, w); returns ().
    Raises:
        InputError: student and teacher do not fit, or `build` or `prepare` has not been called.
    """

    weight = 1e-3
    tap_kind = "pre_activation"

    margins: Tensor | None

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        margin_images: int = 5000,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.margin_images = check_integer("margin_images", margin_images, 1)
        self.connectors = nn.ModuleList()
        self.register_buffer("margins", None)  # of all layers, one after the other
        self._shapes: Shapes | None = None

    @property
    def prepared(self) -> bool:
        return self.margins is not None

    def prepare(self, teacher: nn.Module, split: TrainingImages, *, epochs: int = 40, seed: int = 0) -> None:
        """Counts the margins in one pass without augmentation; `epochs` and `seed` have no effect."""
        check_teacher(teacher)
        taps = tap_names(teacher, self.teacher_taps, "teacher", kind=self.tap_kind)
        device = next(teacher.parameters()).device
        count = min(self.margin_images, len(split.images))
        chosen = torch.arange(count) * len(split.images) // count
        totals: list[Tensor] = []
        for indices in torch.split(chosen, 250):
            preparation().next_batch(len(indices))
            images = normalized(split.images[indices.to(split.images.device)], split, device)
            with torch.no_grad():
                features = collect(teacher, images, taps, "teacher").features
            sums = [_negatives(feature) for feature in features]
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
        self.margins = torch.cat([(total / number.clamp_min(1)).float() for total, number in totals])

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        check_features("OFD", student, teacher)
        self._shapes = shapes_of(student, teacher)
        self.connectors = nn.ModuleList()
        for (inputs, *_), (outputs, *_) in self._shapes:
            layer = conv(inputs, outputs, 1, generator, bias=False)
            with torch.no_grad():
                # As in the authors' code.
                layer.weight.normal_(0, math.sqrt(2 / outputs), generator=generator)
            self.connectors.append(nn.Sequential(layer, nn.BatchNorm2d(outputs)))
        self.to(student.features[0].device, student.features[0].dtype)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("OFD", student, teacher)
        if self.margins is None:
            raise InputError(
                "OFD needs its margins: call `prepare(teacher, split)` first (`train` and `search` do)."
            )
        check_built("OFD", self._shapes, student, teacher)
        channels = [feature.shape[1] for feature in teacher.features]
        if sum(channels) != len(self.margins):
            raise InputError(
                f"OFD has margins for {len(self.margins)} channels, the teacher's maps have {sum(channels)}. "
                f"Prepare it with this teacher and these taps."
            )
        margins = torch.split(self.margins, channels)
        layers = list(zip(student.features, teacher.features, self.connectors, margins, strict=True))
        terms = []
        for index, (s, t, connect, margin) in enumerate(layers, 1):
            distance = _partial_distance(*same_size(connect(s), t), margin)
            terms.append(distance / 2 ** (len(layers) - index))
        return torch.stack(terms).sum()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A fresh object takes counted margins, whose number it learns from the tensor."""
        if self.margins is None and prefix + "margins" in state_dict:
            self.margins = torch.empty_like(state_dict[prefix + "margins"])
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _negatives(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "2 c"]:
    """Sum and number of each channel's negative values, in float64."""
    negative = x.double().clamp_max(0)
    return torch.stack((negative.sum((0, 2, 3)), (negative < 0).sum((0, 2, 3)).double()))


def _partial_distance(
    student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n c h w"], margin: Float[Tensor, " c"]
) -> Float[Tensor, ""]:
    target = torch.maximum(teacher, margin.to(teacher.dtype).view(1, -1, 1, 1))
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).sum() / student.shape[0]
