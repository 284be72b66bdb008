"""KD-SVD: how the leading directions of neighboring layers lie to each other."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.spectral import Aligned, aligned_vectors, check_settings


def kernel_features(vector: Float[Tensor, "n c"], terms: int) -> Float[Tensor, "n terms c"]:
    """phi_n(a) = exp(-a^2/8) (a/2)^n / sqrt(n!), n < terms, with phi_0 - 1 in the place of phi_0.

    exp(-(a-b)^2/8) = sum_n phi_n(a) phi_n(b); for |a|, |b| <= 1 what is left out is below (1/4)^terms / terms!.
    phi_0 is close to 1: the differences that are wanted would be lost in rounding, hence expm1.
    """
    exponent = -vector.square() / 8
    rest = torch.expm1(exponent)
    powers, phi = [rest], 1 + rest
    for n in range(1, terms):
        phi = phi * (vector * (0.5 / math.sqrt(n)))
        powers.append(phi)
    return torch.stack(powers, dim=1)


def kernel_distance(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Float[Tensor, " n"]:
    """sum_ij (R_S - R_T)^2 per image, R_ij = exp(-(a_i - b_j)^2 / 8), from `kernel_features` of a and b.

    R = A B^T with c rows and few columns. R_S - R_T = dA M^T + N dB^T with dA = A_S - A_T, M = (B_S + B_T) / 2 and so
    on: every term is of second order in the differences, so that nothing cancels and float32 is enough; and the sum
    of squares is a few products of small Gram matrices instead of a c x c' image per sample.
    """
    (a_s, b_s), (a_t, b_t) = student, teacher
    da, db = a_s - a_t, b_s - b_t
    one = torch.zeros_like(da[:1, :, :1])
    one[:, 0] = 1
    n, m = (a_s + a_t) / 2 + one, (b_s + b_t) / 2 + one
    first = torch.bmm(da, da.mT) * torch.bmm(m, m.mT)
    mixed = torch.bmm(da, n.mT) * torch.bmm(m, db.mT)
    last = torch.bmm(n, n.mT) * torch.bmm(db, db.mT)
    return (first + 2 * mixed + last).sum((1, 2))


def kernel_loss(vectors: Aligned) -> Float[Tensor, ""]:
    """The sum over neighboring layers and images of the squared differences of the kernels; dead images give 0."""
    dtype = vectors.student[0].dtype
    terms = 6 if dtype == torch.float32 else 12
    student = [kernel_features(v, terms) for v in vectors.student]
    teacher = [kernel_features(v, terms) for v in vectors.teacher]
    total = torch.zeros((), dtype=dtype, device=student[0].device)
    for at in range(1, len(student)):
        distance = kernel_distance((student[at], student[at - 1]), (teacher[at], teacher[at - 1]))
        total = total + torch.where(vectors.alive[at] & vectors.alive[at - 1], distance, 0).sum()
    return total


class KDSVD(KDLoss):
    """How the leading directions of neighboring layers lie to each other follows the teacher.

    Source: Lee et al., ECCV 2018 (self-supervised KD using SVD); eq. 5 of the role-wise paper, with the settings of
    the role-wise authors' code: RBF kernel exp(-(a - b)^2 / 8), summed over the batch and all entries.

    Args:
        method: how directions are computed, see `spectral.Settings`; None chooses by the device.
        doubled_gradient: the authors' gradient instead of the true one; the clip hides most of the difference.
    Shape:
        at least 2 feature maps (n, c, h, w); c must agree between the networks; returns ().
    Raises:
        InputError: other numbers of channels, fewer than 2 maps, or what `check_pair` refuses.
    """

    decay = True
    clip = True

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        method: str | None = None,
        doubled_gradient: bool = False,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.settings = check_settings(method, doubled_gradient)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        return kernel_loss(aligned_vectors(student, teacher, self.settings))

    @classmethod
    def release(cls, **arguments: Any) -> "KDSVD":
        """With the authors' gradient: twice the true one, but for the part outside the row space of a map.

        Slow on a GPU, see `MHGD.release`.
        """
        return cls(**{"doubled_gradient": True, **arguments})
