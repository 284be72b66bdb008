"""FitNets: hints from a middle layer."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import Shapes, check_built, check_features, check_layer, shapes_of
from rolewise.kd.layers import Regressor


class FitNet(KDLoss):
    """The student's middle layer predicts the teacher's through a convolutional regressor.

    Source: Romero et al., ICLR 2015, eq. 3, as a mean instead of half a sum, for which the classic weight 100
    (RepDistiller, mdistiller) is meant:

        L = mean (r(F_S) - F_T)^2,  r: convolution, batch norm, ReLU

    The paper trains the hint first and the student afterwards; here, as in those collections, both at once.

    Layers: one, `layer`; None takes the middle one of the feature maps (index number // 2: the third of four).
    The regressor bridges channels and sizes (`rolewise.kd.layers.Regressor`) and is trained with the student.

    Args:
        layer: index of the hint layer among the feature maps.
    Shape:
        maps (n, c, h, w), of any size on either side; returns ().
    Raises:
        InputError: student and teacher do not fit, `layer` is out of range, or `build` has not been called.
    """

    weight = 100.0

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        layer: int | None = None,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.layer = layer
        self.regressor: nn.Module = nn.Identity()
        self._shapes: Shapes | None = None

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        index = self._index(student, teacher)
        like = student.features[index]
        self._shapes = shapes_of(student, teacher)
        self.regressor = Regressor(*self._shapes[index], generator, relu=True).to(like.device, like.dtype)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        index = self._index(student, teacher)
        check_built("FitNet", self._shapes, student, teacher)
        return F.mse_loss(self.regressor(student.features[index]), teacher.features[index])

    def _index(self, student: Outputs, teacher: Outputs) -> int:
        check_features("FitNet", student, teacher)
        index = len(student.features) // 2 if self.layer is None else self.layer
        check_layer(index, student)
        return index
