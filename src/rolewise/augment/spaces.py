"""Level spaces: which strength each op has at a part of its range, as the published policies define it.

The papers share their ops and differ in the ranges. `SPACES` holds one entry per published set of ranges; policies name
one. Our choice in all of them: shears are about the top left corner and exposed pixels are tracked, as in PBA, so that
policies differ only in what is chosen and how strongly.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rolewise.augment.ops import OPS, Op, Resolved
from rolewise.errors import InputError, unknown

ENHANCERS = ("Brightness", "Color", "Contrast", "Sharpness")
# The 14 ops of RandAugment and TrivialAugment.
NAMES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", *ENHANCERS, "Posterize", "Solarize",
    "AutoContrast", "Equalize",
)  # fmt: skip

Strength = Callable[
    [float, int, int], float
]  # (part of the range 0..1, height, width) -> strength without sign


@dataclass(frozen=True)
class Space:
    """One set of ranges.

    Args:
        source: publication of the ranges.
        strengths: the strength of each op that has one.
        mirrored: True if enhancers are signed distances from factor 1; else their strength is the factor itself.
    """

    source: str
    strengths: Mapping[str, Strength]
    mirrored: bool

    def slot(self, name: str, part: float, height: int, width: int) -> tuple[Op, float]:
        """The op and its strength at this part of its range, for images of one size."""
        op = _MIRRORED[name] if self.mirrored and name in _MIRRORED else OPS[name]
        return op, self.strengths[name](part, height, width) if name in self.strengths else 0.0


def _around_one(op: Op) -> Op:
    """The enhancer whose strength is the signed distance of its factor from 1."""

    def resolve(distance: float, height: int, width: int) -> Resolved:
        return op.resolve(1.0 + distance, height, width)

    return replace(op, unit="factor - 1", signed=True, resolve=resolve)


_MIRRORED = {name: _around_one(OPS[name]) for name in ENHANCERS}


def _threshold(part: float) -> int:
    """The least byte that is inverted; the range's 31 steps are 8.5 wide."""
    return math.ceil(round(255 * (1 - part), 6))


def _whole(part: float, maximum: int) -> int:
    """`part` of a range of whole numbers, truncated; parts are fractions such as 7/30, never quite exact."""
    return int(round(part * maximum, 9))


def _mirrored(
    shear: float, side: Strength, degrees: float, distance: float, bits: int
) -> dict[str, Strength]:
    """Ranges whose enhancers are distances from factor 1; `bits` is how many Posterize removes at most."""
    return {
        "ShearX": lambda part, h, w: shear * part,
        "ShearY": lambda part, h, w: shear * part,
        "TranslateX": lambda part, h, w: int(side(part, h, w)),
        "TranslateY": lambda part, h, w: int(side(part, w, h)),
        "Rotate": lambda part, h, w: degrees * part,
        **{name: lambda part, h, w: distance * part for name in ENHANCERS},
        "Posterize": lambda part, h, w: 8 - round(bits * part),
        "Solarize": lambda part, h, w: _threshold(part),
    }


def _direct(
    shear: float, pixels: int, degrees: int, factors: tuple[float, float], bits: tuple[int, int]
) -> dict[str, Strength]:
    """Ranges of PBA's form: whole pixels, degrees, bits and thresholds, enhancers from a least to a greatest factor."""
    least, greatest = factors
    most, fewest = bits
    return {
        "ShearX": lambda part, h, w: shear * part,
        "ShearY": lambda part, h, w: shear * part,
        "TranslateX": lambda part, h, w: _whole(part, pixels),
        "TranslateY": lambda part, h, w: _whole(part, pixels),
        "Rotate": lambda part, h, w: _whole(part, degrees),
        **{name: lambda part, h, w: (greatest - least) * part + least for name in ENHANCERS},
        "Posterize": lambda part, h, w: most - _whole(part, most - fewest),
        "Solarize": lambda part, h, w: 256 - _whole(part, 256),
    }


SPACES: Mapping[str, Space] = {
    "mirrored": Space(
        "torchvision's RandAugment and AutoAugment: shear 0.3, translation 150/331 of the side, 30 degrees, factors "
        "1 +- 0.9, 8 to 4 bits, threshold 255 to 0",
        _mirrored(0.3, lambda part, h, w: 150 / 331 * w * part, 30.0, 0.9, 4),
        mirrored=True,
    ),
    "mirrored-wide": Space(
        "torchvision's TrivialAugmentWide: shear 0.99, translation 32 pixels, 135 degrees, factors 1 +- 0.99, 8 to 2 "
        "bits, threshold 255 to 0",
        _mirrored(0.99, lambda part, h, w: 32 * part, 135.0, 0.99, 6),
        mirrored=True,
    ),
    "standard": Space(
        "the code of AutoAugment, PBA and, as the RA space, of TrivialAugment: shear 0.3, translation 10 pixels, 30 "
        "degrees, factors 0.1 to 1.9, 4 to 0 bits, threshold 256 to 0",
        _direct(0.3, 10, 30, (0.1, 1.9), (4, 0)),
        mirrored=False,
    ),
    "fixed": Space(
        "TrivialAugment's code, `fixed_standard`: as `standard`, but 8 to 4 bits: the least level is the mildest",
        _direct(0.3, 10, 30, (0.1, 1.9), (8, 4)),
        mirrored=False,
    ),
    "wide": Space(
        "TrivialAugment's code, `wide_standard`: shear 0.99, translation 32 pixels, 135 degrees, factors 0.01 to 2, 8 "
        "to 2 bits, threshold 256 to 0",
        _direct(0.99, 32, 135, (0.01, 2.0), (8, 2)),
        mirrored=False,
    ),
}  # fmt: skip


def check_space(name: object) -> str:
    """`name` as a key of `SPACES`.

    Raises:
        InputError: no such space; the nearest is named.
    """
    if not isinstance(name, str) or name not in SPACES:
        raise InputError(unknown("level space", name, SPACES))
    return name
