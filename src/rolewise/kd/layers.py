"""What losses compute alike: vectors and maps made comparable, layers drawn from a generator."""

import math
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

SMALLEST_NORM = 1e-12  # vectors shorter than this have no direction: they count as zero, value and gradient


# Vectors and maps.


def unit(x: Float[Tensor, "..."], dim: int, *, shortest: float = SMALLEST_NORM) -> Float[Tensor, "..."]:
    """`x` at length 1 along `dim`; a vector no longer than `shortest` has no direction, gives 0 and takes no gradient.

    The usual `x / max(norm, eps)` has the same value but hands 1 / eps = 1e12 times the gradient to an
    all-zero vector (a dead sample), where the direction has no limit.
    """
    square = x.square().sum(dim, keepdim=True)
    alive = square > shortest**2
    return x * torch.where(alive, square, torch.ones_like(square)).rsqrt() * alive


def centered_unit(x: Float[Tensor, "r c"], dim: int) -> tuple[Float[Tensor, "r c"], Bool[Tensor, "..."]]:
    """`x` minus its mean along `dim`, at length 1, and which vectors are not constant.

    A constant vector leaves only the rounding errors of its mean, hence a floor relative to the vector
    itself. It gives 0 and takes no gradient.
    """
    centered = x - x.mean(dim, keepdim=True)
    square = centered.square().sum(dim, keepdim=True)
    floor = x.detach().square().sum(dim, keepdim=True) * (8 * torch.finfo(x.dtype).eps) ** 2
    alive = square > floor + SMALLEST_NORM**2
    return centered * torch.where(alive, square, torch.ones_like(square)).rsqrt() * alive, alive


def norm(x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """Euclidean length along `dim`; the gradient of a zero vector is 0, one of its subgradients."""
    square = x.square().sum(dim)
    alive = square > 0
    return torch.where(alive, square, torch.ones_like(square)).sqrt() * alive


def pooled(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
    """Mean over the positions: the vector that the classifier of a residual network sees."""
    return x.mean((2, 3))


def pool_to(x: Float[Tensor, "n c h w"], height: int, width: int) -> Float[Tensor, "n c a b"]:
    """Average-pools to `height` x `width`."""
    if x.shape[2] == height and x.shape[3] == width:
        return x
    if x.shape[2] % height == 0 and x.shape[3] % width == 0:
        # The same value; on a GPU the backward pass of the adaptive kind is not deterministic.
        return F.avg_pool2d(x, (x.shape[2] // height, x.shape[3] // width))
    return F.adaptive_avg_pool2d(x, (height, width))


def same_size(
    student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n d a b"]
) -> tuple[Float[Tensor, "n c e f"], Float[Tensor, "n d e f"]]:
    """Both maps at the smaller height and the smaller width, the larger average-pooled."""
    height, width = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return pool_to(student, height, width), pool_to(teacher, height, width)


# Layers. PyTorch's constructors draw from its global generator; these draw from the given one alone.


def _blank(kind: type[nn.Module], *sizes: Any, **more: Any) -> Any:
    """A layer whose weights are not drawn yet."""
    return skip_init(kind, *sizes, **more)  # type: ignore[no-untyped-call]


def _draw(layer: Any, generator: torch.Generator) -> None:
    """PyTorch's own initial distribution: uniform within 1 / sqrt(fan-in), weight and bias."""
    with torch.no_grad():
        bound = 1 / math.sqrt(layer.weight[0].numel())
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.uniform_(-bound, bound, generator=generator)


def conv(
    inputs: int, outputs: int, kernel: int | tuple[int, int], generator: torch.Generator, **more: Any
) -> nn.Conv2d:
    """A convolution with weights from `generator`; `more` goes to `nn.Conv2d`."""
    layer = _blank(nn.Conv2d, inputs, outputs, kernel, device=generator.device, **more)
    _draw(layer, generator)
    return cast(nn.Conv2d, layer)


def transposed_conv(
    inputs: int, outputs: int, kernel: int, generator: torch.Generator, **more: Any
) -> nn.ConvTranspose2d:
    """A transposed convolution with weights from `generator`; `more` goes to `nn.ConvTranspose2d`."""
    layer = _blank(nn.ConvTranspose2d, inputs, outputs, kernel, device=generator.device, **more)
    _draw(layer, generator)
    return cast(nn.ConvTranspose2d, layer)


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with weights from `generator`."""
    layer = _blank(nn.Linear, inputs, outputs, device=generator.device)
    _draw(layer, generator)
    return cast(nn.Linear, layer)


def kaiming_linear(inputs: int, outputs: int, generator: torch.Generator, *, bias: bool = False) -> nn.Linear:
    """A linear layer with weights by Kaiming's rule (normal, fan in) from `generator`, bias 0."""
    layer = cast(nn.Linear, _blank(nn.Linear, inputs, outputs, bias=bias))
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Regressor(nn.Module):
    """Maps a student's map to the shape of a teacher's: convolution, batch norm and, if asked for, ReLU.

    Source: the convolutional regressor of Romero et al. (FitNets, ICLR 2015, section 2.2), whose kernel
    makes up for the difference in size, with the cases that Tian et al. (CRD, ICLR 2020) added in their
    comparison: half the size by a 3x3 kernel of stride 2, twice the size by a transposed 4x4 kernel. Any other
    enlargement, of which neither speaks, is our choice: nearest neighbor, then 1x1, the kernel of equal sizes.

    Args:
        student, teacher: shapes (c, h, w).
        relu: True appends a ReLU, for teacher maps taken after one.
        generator: draws the weights.
    """

    def __init__(
        self, student: tuple[int, ...], teacher: tuple[int, ...], generator: torch.Generator, *, relu: bool
    ) -> None:
        super().__init__()
        channels, height, width = student
        outputs, high, wide = teacher
        kernel = (1 + height - high, 1 + width - wide)
        self.enlarge: tuple[int, int] | None = None
        if (height, width) == (2 * high, 2 * wide):
            self.conv: nn.Module = conv(channels, outputs, 3, generator, stride=2, padding=1, bias=False)
        elif (2 * height, 2 * width) == (high, wide):
            self.conv = transposed_conv(channels, outputs, 4, generator, stride=2, padding=1, bias=False)
        elif height >= high and width >= wide:
            self.conv = conv(channels, outputs, kernel, generator, bias=False)
        else:
            self.enlarge = (high, wide)
            self.conv = conv(channels, outputs, 1, generator, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d a b"]:
        """The student's map in the teacher's shape."""
        if self.enlarge is not None:
            x = F.interpolate(x, self.enlarge, mode="nearest")
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x
