"""Attention transfer."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_choice, check_features, check_positive
from rolewise.kd.layers import norm, same_size, unit


class AT(KDLoss):
    """Where the student looks follows where the teacher looks: attention maps of each layer agree.

    Source: Zagoruyko & Komodakis, ICLR 2017, eq. 2 with the map F_sum^p, written "squared" as in the authors'
    code, for which the classic weight 1000 (RepDistiller, mdistiller) is meant:

        Q = vec(sum_c |A_c|^p),  L = sum_layers mean_images mean_positions (Q_S / |Q_S| - Q_T / |Q_T|)^2

    `form="paper"` is eq. 2 literally, the Euclidean norm of that difference per image; weigh it about 1000 times
    less.

    Layers: all feature maps. Where sizes differ the larger map is average-pooled; channels may differ.

    Args:
        power: p, > 0, no unit.
        form: "squared" or "paper".
    Shape:
        each map (n, c, h, w); returns ().
    Raises:
        InputError: student and teacher do not fit, or give no maps.
    """

    weight = 1000.0

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        power: float = 2.0,
        form: Literal["squared", "paper"] = "squared",
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.power = check_positive("power", power)
        self.form = check_choice("form", form, ("squared", "paper"))

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("AT", student, teacher)
        pairs = zip(student.features, teacher.features, strict=True)
        return torch.stack([self._layer(*same_size(s, t)) for s, t in pairs]).sum()

    def _layer(self, student: Tensor, teacher: Tensor) -> Tensor:
        difference = self._attention(student) - self._attention(teacher)
        return norm(difference, 1).mean() if self.form == "paper" else difference.square().mean()

    def _attention(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n p"]:
        strength = x.square() if self.power == 2 else x.abs().pow(self.power)
        return unit(strength.mean(1).flatten(1), dim=1)
