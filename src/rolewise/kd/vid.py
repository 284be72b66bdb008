"""Variational information distillation."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import Shapes, check_built, check_features, check_positive, shapes_of
from rolewise.kd.layers import conv, same_size


class VID(KDLoss):
    """The student's maps carry as much information about the teacher's as a Gaussian model can read out.

    Source: Ahn et al., CVPR 2019, eq. 5, without its constant and as a mean over all entries, for which the
    classic weight 1 (RepDistiller, mdistiller) is meant:

        L = sum_layers mean [ (F_T - mu(F_S))^2 / (2 sigma_c^2) + log(sigma_c^2) / 2 ],
        sigma_c^2 = log(1 + exp(alpha_c)) + eps, one per channel

    with mu three 1x1 convolutions without bias and ReLU between them. The variance begins at 5 (authors' code).

    Layers: all feature maps. mu bridges the channels; where sizes differ the larger map is average-pooled. mu
    and alpha are trained with the student. The value may be negative; for given variances it is least,
    mean(log sigma^2) / 2, where mu(F_S) = F_T.

    Args:
        variance: initial sigma^2, > eps.
        eps: smallest variance, > 0.
    Shape:
        maps (n, c, h, w); returns ().
    Raises:
        InputError: student and teacher do not fit, or `build` has not been called.
    """

    weight = 1.0

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        variance: float = 5.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.eps = check_positive("eps", eps)
        self.variance = self.eps + check_positive("variance - eps", variance - self.eps)
        self.means = nn.ModuleList()
        self.alphas = nn.ParameterList()
        self._shapes: Shapes | None = None

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        check_features("VID", student, teacher)
        self._shapes = shapes_of(student, teacher)
        self.means, self.alphas = nn.ModuleList(), nn.ParameterList()
        for (inputs, *_), (outputs, *_) in self._shapes:
            widths = pairwise((inputs, outputs, outputs, outputs))
            a, b, c = (conv(i, o, 1, generator, bias=False) for i, o in widths)
            self.means.append(nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c))
            # The softplus of this is variance - eps.
            alpha = math.log(math.expm1(self.variance - self.eps))
            self.alphas.append(nn.Parameter(torch.full((outputs,), alpha)))
        self.to(student.features[0].device, student.features[0].dtype)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("VID", student, teacher)
        check_built("VID", self._shapes, student, teacher)
        layers = zip(student.features, teacher.features, self.means, self.alphas, strict=True)
        return torch.stack([self._layer(*same_size(s, t), mean, a) for s, t, mean, a in layers]).sum()

    def _layer(self, student: Tensor, teacher: Tensor, mean: nn.Module, alpha: Tensor) -> Tensor:
        # logaddexp: softplus without overflow, and without softplus's switch to the identity above 20.
        variance = (torch.logaddexp(alpha, torch.zeros_like(alpha)) + self.eps).view(1, -1, 1, 1)
        error: Tensor = (teacher - mean(student)).square()
        return 0.5 * (error / variance + variance.log()).mean()
