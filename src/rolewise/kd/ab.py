"""Activation boundaries."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import Shapes, check_built, check_features, check_positive, shapes_of
from rolewise.kd.layers import Regressor

_SCALE = 3e-3  # of the authors' CIFAR code: with it the weight is 1


class AB(KDLoss):
    """The student's neurons fire where the teacher's do, with a margin.

    Source: Heo et al., AAAI 2019, the differentiable alternative to the activation transfer loss, with the
    layer weights and the factor 3 / 1000 of the authors' CIFAR code, so that the weight is 1 as in RepDistiller:

        L = 3e-3 sum_l 2^(l - L) mean_images sum_entries [ T > 0: max(0, m - S)^2,  T <= 0: max(0, m + S)^2 ]

    for layers l = 1..L, where S is the student's map behind a connector. The original initializes a student with
    this loss alone and trains it on the task afterwards; a student here has one objective, so the term is
    added to the task loss throughout.

    Layers: all feature maps, before the ReLU where a network offers such taps, as in the original. The teacher's
    boundary is the same before and behind it; the student's must be able to go below 0, hence, by default, a
    connector in every layer (convolution and batch norm, `rolewise.kd.layers.Regressor`), which also bridges channels
    and sizes. Taps before the ReLU can do without where shapes agree: `connect_equal=False`, as in the original.

    Args:
        margin: m, > 0.
        connect_equal: True adds a connector to layers of equal shapes too.
    Shape:
        maps (n, c, h, w); returns ().
    Raises:
        InputError: student and teacher do not fit, or `build` has not been called.
    """

    weight = 1.0
    tap_kind = "pre_activation"

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        margin: float = 1.0,
        connect_equal: bool = True,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.margin = check_positive("margin", margin)
        self.connect_equal = connect_equal
        self.connectors = nn.ModuleList()
        self._shapes: Shapes | None = None

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        check_features("AB", student, teacher)
        self._shapes = shapes_of(student, teacher)
        self.connectors = nn.ModuleList(
            nn.Identity() if s == t and not self.connect_equal else Regressor(s, t, generator, relu=False)
            for s, t in self._shapes
        )
        self.to(student.features[0].device, student.features[0].dtype)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("AB", student, teacher)
        check_built("AB", self._shapes, student, teacher)
        layers = list(zip(student.features, teacher.features, self.connectors, strict=True))
        terms = [
            self._layer(connect(s), t) / 2 ** (len(layers) - i) for i, (s, t, connect) in enumerate(layers, 1)
        ]
        return _SCALE * torch.stack(terms).sum()

    def _layer(
        self, student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, ""]:
        beyond = torch.where(teacher > 0, self.margin - student, self.margin + student)
        return F.relu(beyond).square().sum() / student.shape[0]
