"""Neuron selectivity transfer."""

import torch
from jaxtyping import Float
from torch import Tensor

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_features
from rolewise.kd.layers import same_size, unit


class NST(KDLoss):
    """The channels' spatial patterns are distributed alike: maximum mean discrepancy with a polynomial kernel.

    Source: Huang & Wang, arXiv 1707.01219 (2017), section 4 (squared MMD of normalized channels) with the
    polynomial kernel (x . y)^2, per image, with the classic weight 50 (RepDistiller, mdistiller). f are the
    channels' maps, flattened, at length 1:

        L = sum_layers mean_images [ mean_ij (f_S,i . f_S,j)^2 + mean_ij (f_T,i . f_T,j)^2
                                     - 2 mean_ij (f_S,i . f_T,j)^2 ]

    Since mean_ij (x_i . y_j)^2 = <X^T X, Y^T Y> / (c d) for the matrices X (c x hw), Y (d x hw), the bracket is
    also |X^T X / c - Y^T Y / d|_F^2. On small maps that is cheaper, and free of cancellation near equality; on
    large ones the three matrices of inner products are smaller. Neither holds an image's n c^2 hw products.

    Layers: all feature maps. Channels may differ; where sizes differ the larger map is average-pooled.

    Shape:
        maps (n, c, h, w); returns ().
    Raises:
        InputError: student and teacher do not fit, or give no maps.
    """

    weight = 50.0

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("NST", student, teacher)
        pairs = zip(student.features, teacher.features, strict=True)
        return torch.stack([_discrepancy(*same_size(s, t)) for s, t in pairs]).sum()


def _discrepancy(student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n d h w"]) -> Float[Tensor, ""]:
    s, t = unit(student.flatten(2), dim=2), unit(teacher.flatten(2), dim=2)
    if s.shape[2] <= 2 * max(s.shape[1], t.shape[1]):
        return (_moments(s) - _moments(t)).square().sum((1, 2)).mean()
    return _kernel_mean(s, s) + _kernel_mean(t, t) - 2 * _kernel_mean(s, t)


def _moments(f: Float[Tensor, "n c p"]) -> Float[Tensor, "n p p"]:
    return f.transpose(1, 2) @ f / f.shape[1]


def _kernel_mean(a: Float[Tensor, "n c p"], b: Float[Tensor, "n d p"]) -> Float[Tensor, ""]:
    return (a @ b.transpose(1, 2)).square().mean()
