"""The table of operations: name, range, unit, kernel; the first 15 are the published search space in its order."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from rolewise.augment import kernels
from rolewise.augment.kernel_types import Program

MAX_SIDE = 8192  # Pillow's fixed-point path ends where a coordinate may reach 32,768
LEVELS = 10
_NO_NUMBERS = (0, 0, 0, 0, 0, 0)
_UNMOVED = (kernels.ONE, 0, kernels.ONE // 2, 0, kernels.ONE, kernels.ONE // 2)


@dataclass(frozen=True)
class Resolved:
    """An op at one strength on one image size, as the kernels take it (see `Program`)."""

    kernel: int
    numbers: tuple[int, ...] = _NO_NUMBERS
    factor: float = 0.0


Resolve = Callable[[float, int, int], Resolved]


@dataclass(frozen=True)
class Op:
    """One operation.

    Args:
        name: published name.
        unit: unit of the strength: "degrees", "pixels", "slope" (pixels per pixel), "bits kept", "threshold",
            "factor" or "" (none).
        strengths: the strength at each magnitude, 0 to 9; None where the op has none.
        signed: True negates the strength for half of the images.
        resolve: function of (strength with its sign, height, width) that gives the kernel's numbers.
        source: the Pillow call that the op equals.
    """

    name: str
    unit: str
    strengths: tuple[float, ...] | None
    signed: bool
    resolve: Resolve
    source: str

    @property
    def range(self) -> tuple[float, float] | None:
        """Strength at magnitude 0 and at magnitude 9."""
        return None if self.strengths is None else (self.strengths[0], self.strengths[-1])

    def strength(self, magnitude: int, sign: int = 1) -> float:
        """The physical value at a magnitude from 0 to 9 (0.0 where the op has no strength)."""
        value = 0.0 if self.strengths is None else self.strengths[magnitude]
        return value * sign if self.signed else value


def _fixed(value: float) -> int:
    """Pillow's 16.16 fixed point."""
    return math.floor(value * 65536 + 0.5)


def _affine(a: float, b: float, c: float, d: float, e: float, f: float) -> Resolved:
    """Output (x, y) shows input (a x + b y + c, d x + e y + f), sampled at pixel centers."""
    start_x, start_y = _fixed(c + a * 0.5 + b * 0.5), _fixed(f + d * 0.5 + e * 0.5)
    numbers = (_fixed(a), _fixed(b), start_x, _fixed(d), _fixed(e), start_y)
    return Resolved(kernels.IDENTITY if numbers == _UNMOVED else kernels.AFFINE, numbers)


def _rotate(degrees: float, height: int, width: int) -> Resolved:
    """Counter-clockwise about the image's center, as `Image.rotate`: entries rounded to 15 decimals."""
    angle = -math.radians(degrees % 360.0)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = width / 2.0, height / 2.0
    return _affine(cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y)


def _translate_x(pixels: float, height: int, width: int) -> Resolved:
    return _affine(1, 0, pixels, 0, 1, 0)


def _translate_y(pixels: float, height: int, width: int) -> Resolved:
    return _affine(1, 0, 0, 0, 1, pixels)


def _shear_x(slope: float, height: int, width: int) -> Resolved:
    return _affine(1, slope, 0, 0, 1, 0)


def _shear_y(slope: float, height: int, width: int) -> Resolved:
    return _affine(1, 0, 0, slope, 1, 0)


def _flip_x(strength: float, height: int, width: int) -> Resolved:
    return _affine(-1, 0, width, 0, 1, 0)


def _flip_y(strength: float, height: int, width: int) -> Resolved:
    return _affine(1, 0, 0, 0, -1, height)


def _identity(strength: float, height: int, width: int) -> Resolved:
    return Resolved(kernels.IDENTITY)


def _enhance(kernel: int) -> Resolve:
    def resolve(factor: float, height: int, width: int) -> Resolved:
        return Resolved(kernels.IDENTITY if factor == 1.0 else kernel, factor=factor)

    return resolve


def _recolor(kernel: int) -> Resolve:
    """Ops that go through RGB: all alpha becomes 255, even where the colors do not change."""

    def resolve(strength: float, height: int, width: int) -> Resolved:
        return Resolved(kernel, (int(strength), 0, 0, 0, 0, 0))

    return resolve


def _posterize(bits: float, height: int, width: int) -> Resolved:
    return Resolved(kernels.POSTERIZE, (256 - 2 ** (8 - int(bits)), 0, 0, 0, 0, 0))


def _cutout(side: float, height: int, width: int) -> Resolved:
    return Resolved(kernels.CUTOUT, (int(side) // 2, 0, 0, 0, 0, 0))


def _linear(maximum: float) -> tuple[float, ...]:
    # The published scale ends at 10 while magnitudes end at 9: the nominal maximum is never reached.
    return tuple(level * maximum / 10 for level in range(LEVELS))


def _whole(maximum: int) -> tuple[float, ...]:
    return tuple(int(level * maximum / 10) for level in range(LEVELS))


_FACTORS = tuple(level * 1.8 / 10 + 0.1 for level in range(LEVELS))
_BITS = tuple(4 - level for level in _whole(4))
_THRESHOLDS = tuple(256 - level for level in _whole(256))

# The order is that of the published schedules: PBA's explicit list, to which the hash order of the role-wise
# authors' Python 2.7 dictionary happens to be equal. Under Python 3 their code decodes the same vectors in
# another order.
_OPS = [
    # name, unit, strengths at magnitudes 0..9, signed, kernel, the Pillow call that it equals
    Op("Rotate", "degrees", _whole(30), True, _rotate, "image.rotate(degrees)"),
    Op(
        "TranslateX",
        "pixels",
        _whole(10),
        True,
        _translate_x,
        "AFFINE (1, 0, t, 0, 1, 0): positive moves left",
    ),
    Op(
        "TranslateY", "pixels", _whole(10), True, _translate_y, "AFFINE (1, 0, 0, 0, 1, t): positive moves up"
    ),
    Op(
        "Brightness",
        "factor",
        _FACTORS,
        False,
        _enhance(kernels.BRIGHTNESS),
        "ImageEnhance.Brightness, on RGBA",
    ),
    Op("Color", "factor", _FACTORS, False, _enhance(kernels.COLOR), "ImageEnhance.Color, on RGBA"),
    Op("Invert", "", None, False, _recolor(kernels.INVERT), "ImageOps.invert, on RGB"),
    Op(
        "Sharpness", "factor", _FACTORS, False, _enhance(kernels.SHARPNESS), "ImageEnhance.Sharpness, on RGBA"
    ),
    Op("Posterize", "bits kept", _BITS, False, _posterize, "ImageOps.posterize, on RGB"),
    Op(
        "ShearX",
        "slope",
        _linear(0.3),
        True,
        _shear_x,
        "AFFINE (1, v, 0, 0, 1, 0): about the top left corner",
    ),
    Op("Solarize", "threshold", _THRESHOLDS, False, _recolor(kernels.SOLARIZE), "ImageOps.solarize, on RGB"),
    Op(
        "ShearY",
        "slope",
        _linear(0.3),
        True,
        _shear_y,
        "AFFINE (1, 0, 0, v, 1, 0): about the top left corner",
    ),
    Op("Equalize", "", None, False, _recolor(kernels.EQUALIZE), "ImageOps.equalize, on RGB"),
    Op("AutoContrast", "", None, False, _recolor(kernels.AUTOCONTRAST), "ImageOps.autocontrast, on RGB"),
    Op("Cutout", "pixels", _whole(20), False, _cutout, "a square painted (125, 122, 113, alpha 0)"),
    Op("Contrast", "factor", _FACTORS, False, _enhance(kernels.CONTRAST), "ImageEnhance.Contrast, on RGBA"),
    # Beyond the published 15, which stay first and in order.
    Op("Identity", "", None, False, _identity, "image.copy()"),
    Op("FlipLR", "", None, False, _flip_x, "image.transpose(FLIP_LEFT_RIGHT)"),
    Op("FlipUD", "", None, False, _flip_y, "image.transpose(FLIP_TOP_BOTTOM)"),
]

OPS: Mapping[str, Op] = MappingProxyType({op.name: op for op in _OPS})
PUBLISHED: tuple[str, ...] = tuple(OPS)[:15]


def make_program(
    slots: Sequence[tuple[Op, float]],
    height: int,
    width: int,
    *,
    mode: int,
    amount: int = 2,
    chance: Sequence[int] = (),
    given: np.ndarray | None = None,
) -> Program:
    """Slots (op, unsigned strength) as the arrays that the kernel reads, for images of one size."""
    numbers = np.zeros((len(slots), 2, 6), np.int64)
    kernel = np.zeros(len(slots), np.int64)
    factor = np.zeros((len(slots), 2), np.float32)
    for s, (op, strength) in enumerate(slots):
        kinds = set()
        for side, sign in enumerate((1, -1)):
            resolved = op.resolve(sign * strength if op.signed else strength, height, width)
            numbers[s, side] = resolved.numbers
            factor[s, side] = resolved.factor
            kinds.add(resolved.kernel)
        kernel[s] = max(kinds)
    return Program(
        mode=mode,
        amount=amount,
        chance=np.array(chance, np.int64),
        kernel=kernel,
        signed=np.array([op.signed for op, _ in slots], np.int64),
        numbers=numbers,
        factor=factor,
        given=np.zeros((0, 0, 4), np.int64) if given is None else given,
    )
