"""Correlation congruence."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rolewise.errors import check_integer
from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import (
    Shapes,
    check_batch,
    check_built,
    check_choice,
    check_features,
    check_positive,
    shapes_of,
)
from rolewise.kd.layers import linear, pooled, unit

_WEIGHTS = {"kernel": 100.0, "neighbors": 0.02}


class CC(KDLoss):
    """How images correlate in the student's embedding follows the teacher's.

    Source: Peng et al., ICCV 2019. `form="kernel"` is the paper's: eq. 6 with the Gaussian kernel
    by its Taylor series of order P (gamma 0.4, P 2), for embeddings f of length 1:

        C_ij = exp(-2 gamma) sum_{p=0..P} (2 gamma)^p / p! (f_i . f_j)^p,  L = |C_S - C_T|_F^2 / n^2

    `form="neighbors"` is the shorter one that the authors gave to RepDistiller, where embeddings are not
    normalized and each image meets the next of the batch:

        L = mean_i sum_d |f_S - f_T|_{i,d} |f_S - f_T|_{i+1,d}

    Each form has its own weight: 100 for the kernel, as in public recipes of that form, and the classic 0.02 for
    neighbors. With 0.02 the kernel's gradient is a two-thousandth of cross-entropy's.

    Layers: the last, averaged over positions, then one linear layer per network; both layers are trained with
    the student, as in the paper.

    Args:
        size: length of the embeddings, >= 1.
        form: "kernel" or "neighbors".
        gamma: width of the kernel, > 0.
        order: P, >= 1.
    Shape:
        maps (n, c, h, w), n >= 2, of any size on either side; returns ().
    Raises:
        InputError: student and teacher do not fit, or `build` has not been called.
    """

    weight = _WEIGHTS["kernel"]
    tap_kind = "embedding"

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        size: int = 128,
        form: Literal["kernel", "neighbors"] = "kernel",
        gamma: float = 0.4,
        order: int = 2,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.size = check_integer("size", size, 1)
        self.form = check_choice("form", form, ("kernel", "neighbors"))
        self.weight = _WEIGHTS[form]
        self.gamma = check_positive("gamma", gamma)
        self.order = check_integer("order", order, 1)
        self.student_embedding: nn.Module = nn.Identity()
        self.teacher_embedding: nn.Module = nn.Identity()
        self._shapes: Shapes | None = None

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        check_features("CC", student, teacher)
        like = student.features[-1]
        self._shapes = shapes_of(student, teacher)
        channels, teacher_channels = self._shapes[-1][0][0], self._shapes[-1][1][0]
        self.student_embedding = linear(channels, self.size, generator).to(like.device, like.dtype)
        self.teacher_embedding = linear(teacher_channels, self.size, generator).to(like.device, like.dtype)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("CC", student, teacher)
        check_batch("CC", student)
        check_built("CC", self._shapes, student, teacher)
        s: Tensor = self.student_embedding(pooled(student.features[-1]))
        t: Tensor = self.teacher_embedding(pooled(teacher.features[-1]))
        if self.form == "neighbors":
            distance = (s - t).abs()
            return (distance[:-1] * distance[1:]).sum(1).mean()
        return (self._correlation(s) - self._correlation(t)).square().mean()

    def _correlation(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        f = unit(embeddings, dim=1)
        cosine = 2 * self.gamma * (f @ f.T)
        term = total = torch.ones_like(cosine)
        for p in range(1, self.order + 1):
            term = term * cosine / p
            total = total + term
        return math.exp(-2 * self.gamma) * total
