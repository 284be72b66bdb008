"""Relational knowledge distillation: distances and angles among the samples of a batch."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rolewise.errors import InputError
from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_batch, check_layer, check_logits, check_pair
from rolewise.kd.layers import pooled, unit

SHORTEST = 1e-6  # floor of a length, as in the reference code
IN_CACHE = 1 << 18  # float64 numbers that a core's second cache holds


class _SquaredDistances(torch.autograd.Function):
    """|x_i - x_j|^2 in float64, without the n x n x d differences in either direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        wide = x.double()
        ctx.save_for_backward(wide)
        ctx.dtype = x.dtype
        return torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").square_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (wide,) = ctx.saved_tensors
        both = gradient + gradient.mT
        found = torch.addmm(both.sum(1, keepdim=True) * wide, both, wide, beta=2, alpha=-2)
        return found.to(ctx.dtype)


def squared_distances(x: Float[Tensor, "n d"]) -> Float64[Tensor, "n n"]:
    """Squared distances of every two rows, from their differences: exact to rounding also where rows are close."""
    squared: Tensor = _SquaredDistances.apply(x)  # type: ignore[no-untyped-call]
    return squared


def relative_distances(squared: Float64[Tensor, "n n"], *, diagonal: bool = True) -> Float64[Tensor, "n n"]:
    """Distances of every two rows, divided by their mean over all that are not 0.

    Args:
        squared: `squared_distances` of the rows.
        diagonal: the distance of a row to itself is its floor, 1e-6, and counts in the mean (the role-wise authors'
            code); False makes it 0 (Park et al.).
    """
    distance = squared.clamp_min(SHORTEST**2).sqrt()
    if diagonal:  # none is 0
        return distance / (distance.mean() + 1e-8)
    distance = distance * (1 - torch.eye(len(distance), dtype=distance.dtype, device=distance.device))
    return distance / (distance.sum() / (distance > 0).sum() + 1e-8)


def _reciprocals(squared: Float64[Tensor, "m n"], dtype: torch.dtype) -> Float[Tensor, "m n"]:
    """1 / distance; 0 where two rows are closer than 1e-6, and so have no direction."""
    return squared.rsqrt().masked_fill_(squared <= SHORTEST**2, 0).to(dtype)


def angles(
    squared: Float64[Tensor, "n n"], near: Float[Tensor, "m n"], rows: slice = slice(None)
) -> Float[Tensor, "m n n"]:
    """Cosines [i, j, k] of the angle at row i between rows j and k; 0 where a side is shorter than 1e-6, as j = i is.

    By the law of cosines, which needs no product of n x n x d directions. The squares cancel where one side is far
    longer than the other: they are added in float64.

    Args:
        squared: `squared_distances` of the rows.
        near: reciprocal distances of `rows`, in the type of the result.
        rows: which i.
    """
    own = squared[rows]
    cosines = (own.unsqueeze(2) + own.unsqueeze(1)).sub_(squared).to(near.dtype)
    return cosines.mul_(near.unsqueeze(2)).mul_((near / 2).unsqueeze(1))


def _gradients(
    near: Float[Tensor, "m n"], cosines: Float[Tensor, "m n n"], arriving: Float[Tensor, "m n n"]
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "n n"]]:
    """Of squared sides and of twice the squared opposite sides, from the gradient of the angles at some rows.

    A side (i, j) enters the angles at i in the sum of squares and in both lengths, (j, k) as the opposite side.
    `arriving` is symmetric in j and k.
    """
    at_side = torch.bmm(near.unsqueeze(1), arriving).squeeze(1)
    in_length = (arriving * cosines).sum(2)
    opposite = (arriving * near.unsqueeze(2)).mul_(near.unsqueeze(1)).sum(0)
    return near * (at_side - near * in_length), opposite


class _AngleDistance(torch.autograd.Function):
    """The summed Huber loss (threshold 1) of the angles; keeps n x n gradients instead of n x n x n angles."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, dtype: torch.dtype) -> Tensor:
        sides, n = (student, teacher), len(student)
        step = max(1, IN_CACHE // n**2) if student.device.type == "cpu" else n
        losses: list[Tensor] = []
        parts: tuple[list[tuple[Tensor, Tensor]], ...] = ([], [])
        for begin in range(0, n, step):
            rows = slice(begin, begin + step)
            near = [_reciprocals(side[rows], dtype) for side in sides]
            ours, theirs = (angles(side, one, rows) for side, one in zip(sides, near, strict=True))
            losses.append(F.smooth_l1_loss(ours, theirs, reduction="sum"))
            slope = torch.sub(ours, theirs).clamp_(-1, 1)
            for index, cosines in enumerate((ours, theirs)):
                if ctx.needs_input_grad[index]:
                    parts[index].append(_gradients(near[index], cosines, slope))
        ctx.gradients = [_joined(some) if some else None for some in parts]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum(dtype=torch.float64)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        student, teacher = ctx.gradients
        return (
            None if student is None else gradient.double() * student,
            None if teacher is None else -gradient.double() * teacher,
            None,
        )


def _joined(parts: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "n n"]:
    """The gradient of all squared distances from `_gradients` of some rows after the other."""
    if len(parts) == 1:
        return torch.sub(*parts[0], alpha=0.5)
    sides, opposite = zip(*parts, strict=True)
    return torch.sub(torch.cat(sides), torch.stack(opposite).sum(0), alpha=0.5)


def relational_loss(
    student: Float[Tensor, "n d"],
    teacher: Float[Tensor, "n e"],
    *,
    distance_weight: float = 50.0,
    angle_weight: float = 100.0,
    diagonal: bool = True,
) -> Float[Tensor, ""]:
    """Huber loss (threshold 1, mean over all entries) between the relative distances, and between the angles."""
    s, t = squared_distances(student), squared_distances(teacher)
    distance = F.smooth_l1_loss(
        relative_distances(s, diagonal=diagonal), relative_distances(t, diagonal=diagonal)
    )
    angle: Tensor = _AngleDistance.apply(s, t, student.dtype)  # type: ignore[no-untyped-call]
    angle_weight /= len(student) ** 3  # the mean
    return (distance_weight * distance + angle_weight * angle).to(student.dtype)


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
    tap_kind = "embedding"  # of which it reads the last map's average

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

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_batch("RKD", student)
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
            check_layer(self.features, student, name="features")
            rows = pooled(student.features[self.features]), pooled(teacher.features[self.features])
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
