"""RandAugment and TrivialAugment: policies without a search, with which a searched schedule is compared."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rolewise.augment import kernels
from rolewise.augment.ops import OPS, Op, Resolved
from rolewise.augment.policy import BasePolicy
from rolewise.errors import InputError, check_integer

BINS = 31  # strengths from 0 to the maximum in 30 steps, in both papers
_SIGNED_FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")


def _around_one(op: Op) -> Op:
    """The enhancer whose strength is the signed distance of its factor from 1."""

    def resolve(distance: float, height: int, width: int) -> Resolved:
        return op.resolve(1.0 + distance, height, width)

    return replace(op, unit="factor - 1", signed=True, resolve=resolve)


_SPACE = {
    **{name: OPS[name] for name in ("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")},
    **{name: _around_one(OPS[name]) for name in _SIGNED_FACTORS},
    **{name: OPS[name] for name in ("Posterize", "Solarize", "AutoContrast", "Equalize")},
}

Maxima = dict[
    str, Callable[[float, int, int], float]
]  # op -> (part of the range 0..1, height, width) -> strength


def _slots(maxima: Maxima, part: float, height: int, width: int) -> list[tuple[Op, float]]:
    return [(op, maxima[name](part, height, width) if name in maxima else 0.0) for name, op in _SPACE.items()]


def _threshold(part: float) -> int:
    """The least byte that is inverted; the range's 31 steps are 8.5 wide."""
    return math.ceil(round(255 * (1 - part), 6))


_RANDAUGMENT: Maxima = {
    "ShearX": lambda part, h, w: 0.3 * part,
    "ShearY": lambda part, h, w: 0.3 * part,
    "TranslateX": lambda part, h, w: int(150 / 331 * w * part),
    "TranslateY": lambda part, h, w: int(150 / 331 * h * part),
    "Rotate": lambda part, h, w: 30.0 * part,
    **{name: lambda part, h, w: 0.9 * part for name in _SIGNED_FACTORS},
    "Posterize": lambda part, h, w: 8 - round(4 * part),
    "Solarize": lambda part, h, w: _threshold(part),
}
_TRIVIAL_WIDE: Maxima = {
    "ShearX": lambda part, h, w: 0.99 * part,
    "ShearY": lambda part, h, w: 0.99 * part,
    "TranslateX": lambda part, h, w: int(32 * part),
    "TranslateY": lambda part, h, w: int(32 * part),
    "Rotate": lambda part, h, w: 135.0 * part,
    **{name: lambda part, h, w: 0.99 * part for name in _SIGNED_FACTORS},
    "Posterize": lambda part, h, w: 8 - round(6 * part),
    "Solarize": lambda part, h, w: _threshold(part),
}


class _WithoutVector(BasePolicy):
    """A policy that has no place in PBA's space."""

    def to_vector(self) -> list[int]:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(f"{type(self).__name__} has no vector: only a PBA policy has one.")


@dataclass(frozen=True)
class RandAugment(_WithoutVector):
    """`num_ops` ops on every image, each drawn uniformly from 14 and all at the same magnitude.

    Source: Cubuk et al., "RandAugment", 2020; ranges as in its common implementations: shear 0.3, translation
        150/331
    of the side, rotation 30 degrees, factors 1 +- 0.9, 4 to 8 bits, Solarize threshold 255 to 0. Our choice:
    shears are about the top left corner and exposed pixels are kept track of, as in PBA, so that controls
    differ in what is chosen alone.

    Args:
        num_ops: ops per image, at least 0.
        magnitude: 0 to 30, part of each range in thirtieths.
    """

    num_ops: int = 2
    magnitude: int = 9
    kind: ClassVar[str] = "randaugment"

    def __post_init__(self) -> None:
        check_integer("num_ops", self.num_ops, 0, 100)
        check_integer("magnitude", self.magnitude, 0, BINS - 1)

    def slots(self, height: int, width: int) -> list[tuple[Op, float]]:
        return _slots(_RANDAUGMENT, self.magnitude / (BINS - 1), height, width)

    def choice(self) -> tuple[int, int, Sequence[int]]:
        return kernels.CHOOSE, self.num_ops, ()

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "num_ops": self.num_ops, "magnitude": self.magnitude}


@dataclass(frozen=True)
class TrivialAugment(_WithoutVector):
    """One op on every image, drawn uniformly from 14, at a strength drawn uniformly from 31.

    Source: Müller and Hutter, "TrivialAugment", ICCV 2021, its wide space: shear 0.99, translation 32 pixels,
        rotation
    135 degrees, factors 1 +- 0.99, 2 to 8 bits, Solarize threshold 255 to 0. Conventions as of `RandAugment`.
    """

    kind: ClassVar[str] = "trivialaugment"

    def slots(self, height: int, width: int) -> list[tuple[Op, float]]:
        parts = [step / (BINS - 1) for step in range(BINS)]
        return [slot for part in parts for slot in _slots(_TRIVIAL_WIDE, part, height, width)]

    def choice(self) -> tuple[int, int, Sequence[int]]:
        return kernels.CHOOSE, 1, ()

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}
