"""Probabilistic knowledge transfer."""

from jaxtyping import Float
from torch import Tensor

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_batch, check_features
from rolewise.kd.layers import pooled, unit

_EPS = 1e-7  # within the logarithm, as in the authors' code


class PKT(KDLoss):
    """The probability that an image picks another as its neighbor is the same in both feature spaces.

    Source: Passalis & Tefas, ECCV 2018, section 3 (conditional probabilities by the cosine kernel, KL
    divergence), summed as in the authors' code, for which the classic weight 30000 (RepDistiller, mdistiller) is
    meant: an image counts among its own neighbors, and the mean is over all n^2 entries.

        K_ij = (cos(f_i, f_j) + 1) / 2,  P_ij = K_ij / sum_j K_ij,
        L = mean_ij P_T log((P_T + 1e-7) / (P_S + 1e-7))

    Entries are near 1 / n and their logarithms nearly equal, so that float32 keeps two or three digits of L; it
    is computed in float64, which for n vectors costs next to nothing.

    Layers: the last, averaged over positions. Sizes and channels may differ.

    Shape:
        maps (n, c, h, w), n >= 2; returns ().
    Raises:
        InputError: student and teacher do not fit, or give no maps.
    """

    weight = 30000.0
    tap_kind = "embedding"

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("PKT", student, teacher)
        check_batch("PKT", student)
        p_student, p_teacher = _neighbors(student.features[-1]), _neighbors(teacher.features[-1])
        loss = (p_teacher * ((p_teacher + _EPS).log() - (p_student + _EPS).log())).mean()
        return loss.to(student.features[-1].dtype)


def _neighbors(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n n"]:
    """Conditional probabilities of neighbors, rows sum to 1."""
    f = unit(pooled(x.double()), dim=1)
    kernel = (f @ f.T + 1) / 2
    return kernel / kernel.sum(1, keepdim=True)
