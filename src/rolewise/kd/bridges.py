"""What the feature losses share: checks, maps and vectors made comparable, layers drawn from a generator."""

import math
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from rolewise.errors import InputError, InputTypeError
from rolewise.kd.base import Outputs, check_pair

SMALLEST_NORM = 1e-12  # vectors shorter than this have no direction: they count as zero, value and gradient

# (shape of a student's map, shape of the teacher's), both without the batch, per layer.
Shapes = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


# Checks.


def check_features(loss: str, student: Outputs, teacher: Outputs, *, least: int = 1) -> None:
    """`check_pair`, and that there are enough feature maps.

    Raises:
        InputError: the two sides do not fit, or give fewer than `least` maps.
    """
    check_pair(student, teacher)
    if len(student.features) < least:
        raise InputError(
            f"{loss} needs at least {least} feature map{'s' if least > 1 else ''} of each network, "
            f"got {len(student.features)}. Name the layers in `taps`."
        )


def check_logits(loss: str, student: Outputs, teacher: Outputs) -> None:
    """`check_pair`, and that there are classes to tell apart.

    Raises:
        InputError: the two sides do not fit, or there are fewer than 2 classes.
    """
    check_pair(student, teacher)
    if student.logits.shape[1] < 2:
        raise InputError(f"{loss} compares classes and needs at least 2, got {student.logits.shape[1]}.")


def check_batch(loss: str, outputs: Outputs, least: int = 2) -> None:
    """That there are images to compare with each other.

    Raises:
        InputError: fewer than `least`.
    """
    if outputs.logits.shape[0] < least:
        raise InputError(
            f"{loss} compares images with each other and needs a batch of at least {least}, "
            f"got {outputs.logits.shape[0]}."
        )


def check_layer(layer: int, outputs: Outputs) -> None:
    """That `layer` is an index into the feature maps.

    Raises:
        InputError: it is not.
    """
    count = len(outputs.features)
    if not -count <= layer < count:
        raise InputError(
            f"`layer` must be an index into the {count} feature maps ({-count} to {count - 1}), got {layer}."
        )


def check_positive(name: str, value: object) -> float:
    """`value` as a float above 0.

    Raises:
        InputTypeError: not a number.
        InputError: not finite, or not above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputTypeError(f"`{name}` must be a number above 0, got {value!r}.")
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"`{name}` must be a finite number above 0, got {value}.")
    return float(value)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """`value` if it is one of `allowed`.

    Raises:
        InputError: it is not.
    """
    if value not in allowed:
        raise InputError(f"`{name}` must be {' or '.join(f'{a!r}' for a in allowed)}, got {value!r}.")
    return value


def labels_of(loss: str, student: Outputs, teacher: Outputs) -> Int64[Tensor, " n"]:
    """The images' classes, from the student's outputs or else from the teacher's.

    Raises:
        InputError: neither bears them, or their number is not that of the logits.
    """
    return _per_image(loss, "labels", "classes", student, teacher)


def ids_of(loss: str, student: Outputs, teacher: Outputs) -> Int64[Tensor, " n"]:
    """The images' numbers, from the student's outputs or else from the teacher's.

    Raises:
        InputError: neither bears them, or their number is not that of the logits.
    """
    return _per_image(loss, "ids", "numbers", student, teacher)


def _per_image(loss: str, field: str, meaning: str, student: Outputs, teacher: Outputs) -> Tensor:
    values = getattr(student, field)
    values = getattr(teacher, field) if values is None else values
    if values is None:
        raise InputError(f"{loss} needs the images' {meaning}: give Outputs(..., {field}=...).")
    if values.shape[0] != student.logits.shape[0]:
        raise InputError(
            f"`{field}` must hold one number for each of the {student.logits.shape[0]} images of the logits, "
            f"got {values.shape[0]}."
        )
    return cast(Tensor, values)


def shapes_of(student: Outputs, teacher: Outputs) -> Shapes:
    """The shapes of the feature maps without the batch, layer by layer."""
    pairs = zip(student.features, teacher.features, strict=True)
    return tuple((tuple(s.shape[1:]), tuple(t.shape[1:])) for s, t in pairs)


def check_built(loss: str, shapes: Shapes | None, student: Outputs, teacher: Outputs) -> None:
    """That the parts of a loss were made, and for maps of these shapes.

    Raises:
        InputError: no `build` yet, or other shapes than it saw.
    """
    if shapes is None:
        raise InputError(
            f"{loss} has parts whose sizes depend on the networks: call `build(student, teacher, ...)` first "
            f"(`Distill` does)."
        )
    now = shapes_of(student, teacher)
    if now != shapes:
        raise InputError(
            f"{loss} was built for {_list(shapes)}, got {_list(now)}. Build it anew for other networks."
        )


def _list(shapes: Shapes) -> str:
    student = ", ".join("x".join(map(str, s)) for s, _ in shapes)
    teacher = ", ".join("x".join(map(str, t)) for _, t in shapes)
    return f"student maps of {student} and teacher maps of {teacher}"


# Vectors and maps.


def unit(x: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """`x` at length 1 along `dim`; a vector without direction gives 0 and takes no gradient.

    The usual `x / max(norm, eps)` has the same value but hands 1 / eps = 1e12 times the gradient to an
    all-zero vector (a dead sample), where the direction has no limit.
    """
    square = x.square().sum(dim, keepdim=True)
    alive = square > SMALLEST_NORM**2
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


class Regressor(nn.Module):
    """Maps a student's map to the shape of a teacher's: convolution, batch norm and, if asked for, ReLU.

    Source: the convolutional regressor of Romero et al. (FitNets, ICLR 2015, section 2.2), whose kernel
    makes up for the difference in size, with the cases that Tian et al. (CRD, ICLR 2020) added in their
    comparison: half the size by a 3x3 kernel of stride 2, twice the size by a transposed 4x4 kernel. Any other
    enlargement, of which neither speaks, is our choice: nearest neighbor, then 1x1, the kernel of equal sizes.

    Args:
        student, teacher: shapes (c, h, w).
        relu: whether a ReLU ends it, for teacher maps that are behind one.
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
