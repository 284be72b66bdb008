"""Relational knowledge distillation: distances and angles among the samples of a batch."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rolewise.errors import InputError
from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_logits, check_pair
from rolewise.kd.layers import unit

SHORTEST = 1e-6  # floor of a length, as in the reference code


def differences(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n d"]:
    """x_j - x_i for every two rows."""
    return x.unsqueeze(0) - x.unsqueeze(1)


def relative_distances(difference: Float[Tensor, "n n d"], *, diagonal: bool = True) -> Float[Tensor, "n n"]:
    """Distances of every two rows, divided by their mean over all that are not 0.

    Args:
        difference: difference of every two rows.
        diagonal: the distance of a row to itself is its floor, 1e-6, and counts in the mean (the role-wise authors'
            code); False makes it 0 (Park et al.).
    """
    distance = difference.square().sum(2).clamp_min(SHORTEST**2).sqrt()
    if not diagonal:
        distance = distance * (1 - torch.eye(len(distance), dtype=distance.dtype, device=distance.device))
    mean = distance.sum() / (distance > 0).sum()
    return distance / (mean + 1e-8)


def angles(difference: Float[Tensor, "n n d"]) -> Float[Tensor, "n n n"]:
    """Cosines [i, j, k] of the angle at row i between rows j and k; 0 where j = i or k = i.

    Two rows closer than 1e-6 have no direction: their unit vector is 0, and takes no gradient.
    """
    directions = unit(difference.flatten(0, 1), dim=1, shortest=SHORTEST).view_as(difference)
    return torch.bmm(directions, directions.mT)


def relational_loss(
    student: Float[Tensor, "n d"],
    teacher: Float[Tensor, "n e"],
    *,
    distance_weight: float = 50.0,
    angle_weight: float = 100.0,
    diagonal: bool = True,
) -> Float[Tensor, ""]:
    """Huber loss (threshold 1, mean over all entries) between the relative distances, and between the angles."""
    s, t = differences(student), differences(teacher)
    distance = F.smooth_l1_loss(
        relative_distances(s, diagonal=diagonal), relative_distances(t, diagonal=diagonal)
    )
    return distance_weight * distance + angle_weight * F.smooth_l1_loss(angles(s), angles(t))


class RKD(KDLoss):
    """Pairwise distances and angles of student logits follow the teacher's (`features=-1` for a map).

    Source: Park et al., CVPR 2019; eq. 4 of the role-wise paper. Recommended is the form of the role-wise authors'
    code: the logits, at unit length. `original()` gives Park et al.'s form.

    Args:
        distance_weight: factor of the distance term, >= 0, no unit.
        angle_weight: factor of the angle term, >= 0, no unit.
        normalize: rows are divided by their length first.
        diagonal: a sample's distance to itself, 1e-6, counts in the mean distance; see `relative_distances`.
        features: None for the logits, or the index of a feature map, whose mean over the positions is compared.
    Shape:
        logits (n, k) or each feature map (n, c, h, w), n >= 2; c, h, w may differ between the networks; returns ().
    Raises:
        InputError: a batch of one, weights below 0, or what `check_pair` refuses.
    """

    decay = True

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        distance_weight: float = 50.0,
        angle_weight: float = 100.0,
        normalize: bool = True,
        diagonal: bool = True,
        features: int | None = None,
    ) -> None:
        super().__init__(taps, teacher_taps)
        if not (distance_weight >= 0 and angle_weight >= 0):
            raise InputError(
                f"`distance_weight` and `angle_weight` must be at least 0, got {distance_weight}, {angle_weight}."
            )
        self.distance_weight, self.angle_weight = distance_weight, angle_weight
        self.normalize, self.diagonal, self.features = normalize, diagonal, features
        self.needs_features = features is not None
        self.tap_kind = "embedding"  # of which it reads the last map's average

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        if len(student.logits) < 2:
            raise InputError(
                f"RKD compares samples with each other: a batch of at least 2, got {len(student.logits)}."
            )
        return relational_loss(
            *self._rows(student, teacher),
            distance_weight=self.distance_weight,
            angle_weight=self.angle_weight,
            diagonal=self.diagonal,
        )

    def _rows(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """One row per sample and network."""
        if self.features is None:
            check_logits(student, teacher)
            rows = student.logits, teacher.logits
        else:
            check_pair(student, teacher)
            count = len(student.features)
            if not -count <= self.features < count:
                raise InputError(
                    f"`features` must be an index into {count} feature maps, got {self.features}."
                )
            rows = student.features[self.features].mean((2, 3)), teacher.features[self.features].mean((2, 3))
        if not self.normalize:
            return rows
        return unit(rows[0], dim=1, shortest=SHORTEST), unit(rows[1], dim=1, shortest=SHORTEST)

    @classmethod
    def original(cls, **arguments: Any) -> "RKD":
        """Park et al.'s form with the weights 25 and 50, on the last feature map."""
        given = {
            "distance_weight": 25.0,
            "angle_weight": 50.0,
            "normalize": False,
            "diagonal": False,
            "features": -1,
        }
        return cls(**{**given, **arguments})
