"""KD-SVD: relations between the leading singular vectors of adjacent layers."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.spectral import Aligned, aligned_vectors, check_settings


class _KernelFeatures(torch.autograd.Function):
    """phi_n' = sqrt(n) / 2 phi_{n-1} - a / 4 phi_n: a few operations on all terms at once, in both directions."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, terms: int) -> Tensor:
        rest = torch.expm1(vector.square() / -8)
        order = torch.arange(1, terms, dtype=vector.dtype, device=vector.device).unsqueeze(1)
        steps = vector.unsqueeze(1) * (0.5 / order.sqrt())
        phi = torch.cat(((1 + rest).unsqueeze(1), steps), dim=1).cumprod(1)
        ctx.save_for_backward(vector, phi)
        features = phi.clone()
        features[:, 0] = rest
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vector, phi = ctx.saved_tensors
        order = torch.arange(1, phi.shape[1], dtype=phi.dtype, device=phi.device).unsqueeze(1)
        below = (gradient[:, 1:] * phi[:, :-1] * (order.sqrt() / 2)).sum(1)
        return torch.addcmul(below, vector, (gradient * phi).sum(1), value=-0.25), None


def kernel_features(vector: Float[Tensor, "n c"], terms: int) -> Float[Tensor, "n terms c"]:
    """phi_n(a) = exp(-a^2/8) (a/2)^n / sqrt(n!), n < terms, with phi_0 - 1 in the place of phi_0.

    exp(-(a-b)^2/8) = sum_n phi_n(a) phi_n(b); for |a|, |b| <= 1 what is left out is below (1/4)^terms / terms!.
    phi_0 is close to 1: the differences that are wanted would be lost in rounding, hence expm1.
    """
    features: Tensor = _KernelFeatures.apply(vector, terms)  # type: ignore[no-untyped-call]
    return features


def _moments(student: Float[Tensor, "n t c"], teacher: Float[Tensor, "n t c"]) -> Float[Tensor, "n 2*t c"]:
    """Differences between the networks' kernel features of a layer, and their mean with 1 added to phi_0."""
    one = torch.zeros_like(teacher[:1, :, :1])
    one[:, 0] = 1
    return torch.cat((student - teacher, (student + teacher) / 2 + one), dim=1)


def _distances(current: Float[Tensor, "*k t t"], previous: Float[Tensor, "*k t t"]) -> Float[Tensor, "*k"]:
    """`kernel_distance` from the Gram matrices of `_moments`: of one, differences meet the means of the other."""
    terms = current.shape[-1] // 2
    return (current * previous.roll((terms, terms), (-2, -1))).sum((-2, -1))


def kernel_distance(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Float[Tensor, " n"]:
    """sum_ij (R_S - R_T)^2 per image, R_ij = exp(-(a_i - b_j)^2 / 8), from `kernel_features` of a and b.

    R = A B^T with c rows and few columns. R_S - R_T = dA M^T + N dB^T with dA = A_S - A_T, M = (B_S + B_T) / 2 and so
    on: every term is of second order in the differences, so that nothing cancels and float32 is enough. The sum of
    squares is tr(dA^T dA M^T M) + 2 tr(dA^T N dB^T M) + tr(N^T N dB^T dB), blocks of the Gram matrices of [dA, N] and
    [M, dB], instead of a c x c image per sample.
    """
    both = [_moments(s, t) for s, t in zip(student, teacher, strict=True)]
    return _distances(*(torch.bmm(x, x.mT) for x in both))


def kernel_loss(vectors: Aligned) -> Float[Tensor, ""]:
    """The sum over adjacent layers and images of the squared differences of the kernels; dead images give 0."""
    terms = 6 if vectors.student[0].dtype == torch.float32 else 12
    student, teacher = (
        kernel_features(torch.cat(v, dim=1), terms) for v in (vectors.student, vectors.teacher)
    )
    layers = torch.split(_moments(student, teacher), [v.shape[1] for v in vectors.student], dim=2)
    grams = [torch.bmm(x, x.mT) for x in layers]
    distances = _distances(torch.stack(grams[1:]), torch.stack(grams[:-1]))
    alive = torch.stack(vectors.alive)
    return distances.masked_fill(~(alive[1:] & alive[:-1]), 0).sum()


class KDSVD(KDLoss):
    """Relations between the leading singular vectors of adjacent layers follow the teacher's.

    Source: Lee et al., ECCV 2018 (self-supervised KD using SVD); eq. 5 of the role-wise paper, with the settings of
    the role-wise authors' code: RBF kernel exp(-(a - b)^2 / 8), summed over the batch and all entries.

    Args:
        method: algorithm for the singular vectors, see `spectral.Settings`; None chooses by the device.
        doubled_gradient: the authors' gradient instead of the true one; the clip hides most of the difference. On a GPU
            it takes `eigh` of every map, which loops there and may take a second a step.
    Shape:
        at least 2 feature maps (n, c, h, w); c must agree between the networks; returns ().
    Raises:
        InputError: numbers of channels that differ, fewer than 2 maps, or what `check_pair` refuses.
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
        """With the authors' gradient: twice the true one where a map has at least as many positions as channels.

        Elsewhere it is twice the part within the row space and once that outside, less U offdiag(U^T D) V^T. Slow on a
        GPU, see `MHGD.release`.
        """
        return cls(**{"doubled_gradient": True, **arguments})
