"""Knowledge review."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.errors import check_integer
from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import Shapes, check_built, check_features, shapes_of
from rolewise.kd.layers import conv, pool_to, pooled

_SCALES = (4, 2, 1)  # of the context loss, beside the full map


class ReviewKD(KDLoss):
    """Each level of the teacher is explained by that level of the student and all deeper ones, fused step by step.

    Source: Chen et al., CVPR 2021, sections 3.2 to 3.4: residual learning with attention based fusion (ABF) and
    the hierarchical context loss (HCL). The levels are the feature maps and the vector that the last one averages
    to. From the deepest level on:

        x = BN(conv1x1(F_S)),  y = the fused map of the deeper level, enlarged to x's size,
        x = a_1 x + a_2 y,  (a_1, a_2) = sigmoid(conv1x1([x, y])),
        output = BN(conv3x3(x enlarged to the teacher's size)), to be compared with F_T
        L = sum_levels HCL,  HCL = [mse + sum_i 2^-i mse(pooled to s_i x s_i)] / sum of these weights

    for s = 4, 2, 1 where smaller than the map. Enlarging takes the nearest neighbor. The classic weight 1 is that
    of mdistiller; the authors' scripts have 0.6 to 8 by pair. Their warm-up of the weight over 20 epochs is not
    part of the loss. They take maps before the ReLU, and the average of the last one behind it; so does this, wherever
    a network offers such taps.

    Layers: all feature maps. Channels and sizes may differ. All convolutions are trained with the student.

    Args:
        width: channels of the fused maps at most, >= 1; fewer where the student's last map has fewer.
    Shape:
        maps (n, c, h, w), n >= 2 in training (batch norm of the vectors); returns ().
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
        width: int = 512,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.width = check_integer("width", width, 1)
        self.fusions = nn.ModuleList()  # deepest level first
        self._shapes: Shapes | None = None

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        check_features("ReviewKD", student, teacher)
        self._shapes = shapes_of(student, teacher)
        width = min(self.width, self._shapes[-1][0][0])
        (deepest, *_), (teacher_deepest, *_) = self._shapes[-1]
        self.fusions = nn.ModuleList([_Fusion(deepest, width, teacher_deepest, generator, first=True)])
        for (inputs, *_), (outputs, *_) in reversed(self._shapes):
            self.fusions.append(_Fusion(inputs, width, outputs, generator, first=False))
        self.to(student.features[0].device, student.features[0].dtype)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("ReviewKD", student, teacher)
        check_built("ReviewKD", self._shapes, student, teacher)
        fused: Tensor | None = None
        terms = []
        for fusion, s, t in zip(self.fusions, _levels(student), _levels(teacher), strict=True):
            output, fused = fusion(s, fused, (t.shape[2], t.shape[3]))
            terms.append(_context_loss(output, t))
        return torch.stack(terms).sum()


class _Fusion(nn.Module):
    """One step of the review: the student's level, fused with what came from the deeper ones.

    Args:
        inputs, width, outputs: channels of the student's level, of the fused map, of the teacher's level.
        generator: draws the weights.
        first: True for the deepest level, which has nothing to fuse.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, generator: torch.Generator, *, first: bool
    ) -> None:
        super().__init__()
        self.enter = nn.Sequential(_conv(inputs, width, 1, generator), nn.BatchNorm2d(width))
        self.leave = nn.Sequential(_conv(width, outputs, 3, generator), nn.BatchNorm2d(outputs))
        self.attention = None if first else conv(2 * width, 2, 1, generator)

    def forward(
        self, x: Float[Tensor, "n c h w"], deeper: Float[Tensor, "n d a b"] | None, size: tuple[int, int]
    ) -> tuple[Float[Tensor, "n e f g"], Float[Tensor, "n d f g"]]:
        """The prediction of the teacher's level, of `size`, and the fused map."""
        x = self.enter(x)
        if self.attention is not None and deeper is not None:
            deeper = _resized(deeper, (x.shape[2], x.shape[3]))
            share = self.attention(torch.cat((x, deeper), 1)).sigmoid()
            x = share[:, :1] * x + share[:, 1:] * deeper
        x = _resized(x, size)
        return self.leave(x), x


def _conv(inputs: int, outputs: int, kernel: int, generator: torch.Generator) -> nn.Conv2d:
    """Without bias, uniform within sqrt(3 / fan-in), which keeps the variance (as in the authors' code)."""
    layer = conv(inputs, outputs, kernel, generator, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(layer.weight, a=1, generator=generator)
    return layer


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if (x.shape[2], x.shape[3]) == size else F.interpolate(x, size, mode="nearest")


def _levels(outputs: Outputs) -> list[Tensor]:
    """The average of the last map behind its ReLU as a 1x1 map, then the maps, deepest first."""
    return [pooled(outputs.features[-1].relu())[:, :, None, None], *reversed(outputs.features)]


def _context_loss(student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Mean squared error of the maps and of their averages over 4x4, 2x2 and 1x1 fields."""
    loss = F.mse_loss(student, teacher)
    weight = total = 1.0
    for size in _SCALES:
        if size < min(student.shape[2:]):
            weight /= 2
            total += weight
            loss = loss + weight * F.mse_loss(pool_to(student, size, size), pool_to(teacher, size, size))
    return loss / total
