"""Similarity-preserving distillation."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_batch, check_features, check_layer
from rolewise.kd.layers import unit


class SP(KDLoss):
    """Images that are similar to the teacher are similar to the student.

    Source: Tung & Mori, ICCV 2019, eq. 1 to 3, with the classic weight 3000 (the paper's gamma):

        G = A A^T of the flattened maps A (n x chw), each row at length 1,  L = |G_S - G_T|_F^2 / n^2

    Layers: one, `layer`, by default the last. Sizes and channels may differ.

    Args:
        layer: index among the feature maps.
    Shape:
        maps (n, c, h, w), n >= 2; returns ().
    Raises:
        InputError: student and teacher do not fit, or `layer` is out of range.
    """

    weight = 3000.0

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        layer: int = -1,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.layer = layer

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("SP", student, teacher)
        check_batch("SP", student)
        check_layer(self.layer, student)
        difference = _similarity(student.features[self.layer]) - _similarity(teacher.features[self.layer])
        return difference.square().mean()


def _similarity(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n n"]:
    """Inner products of the images' maps; each row at length 1."""
    flat = x.flatten(1)
    return unit(flat @ flat.T, dim=1)
