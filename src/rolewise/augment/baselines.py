"""RandAugment, TrivialAugment and AutoAugment: published policies that need no search, as baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rolewise.augment import kernels
from rolewise.augment.ops import Op
from rolewise.augment.policy import BasePolicy
from rolewise.augment.spaces import NAMES, SPACES, check_space
from rolewise.errors import InputError, check_integer

BINS = 31  # strengths from 0 to the maximum in 30 steps, in both papers
AUTOAUGMENT_BINS = {"standard": 11, "mirrored": 10}  # magnitudes 0 to 9 of 0 to 10, or the whole of the range


class _WithoutVector(BasePolicy):
    """A policy that has no place in PBA's space."""

    def to_vector(self) -> list[int]:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(f"{type(self).__name__} has no vector: only a PBA policy has one.")


def _about(policy: "RandAugment | TrivialAugment | AutoAugment", **fields: Any) -> dict[str, Any]:
    """The policy as JSON; the default space is left out, so that files written before there were others stay equal."""
    default = type(policy).__dataclass_fields__["space"].default
    return {"kind": policy.kind, **fields, **({} if policy.space == default else {"space": policy.space})}


@dataclass(frozen=True)
class RandAugment(_WithoutVector):
    """`num_ops` ops on every image, each drawn uniformly from 14 and all at the same magnitude.

    Source: Cubuk et al., "RandAugment", 2020.

    Args:
        num_ops: ops per image, at least 0.
        magnitude: 0 to 30, part of each range in thirtieths.
        space: the ranges, a key of `SPACES`.
    """

    num_ops: int = 2
    magnitude: int = 9
    space: str = "mirrored"
    kind: ClassVar[str] = "randaugment"

    def __post_init__(self) -> None:
        check_integer("num_ops", self.num_ops, 0, 100)
        check_integer("magnitude", self.magnitude, 0, BINS - 1)
        check_space(self.space)

    def slots(self, height: int, width: int) -> list[tuple[Op, float]]:
        part = self.magnitude / (BINS - 1)
        return [SPACES[self.space].slot(name, part, height, width) for name in NAMES]

    def choice(self) -> tuple[int, int, Sequence[int]]:
        return kernels.CHOOSE, self.num_ops, ()

    def expected_ops(self) -> float:
        return float(self.num_ops)

    def to_json(self) -> dict[str, Any]:
        return _about(self, num_ops=self.num_ops, magnitude=self.magnitude)


@dataclass(frozen=True)
class TrivialAugment(_WithoutVector):
    """One op on every image, drawn uniformly from 14, at a strength drawn uniformly from 31.

    Source: Müller and Hutter, "TrivialAugment", ICCV 2021.

    Args:
        space: the ranges, a key of `SPACES`; the paper's best results are those of its wide space.
    """

    space: str = "mirrored-wide"
    kind: ClassVar[str] = "trivialaugment"

    def __post_init__(self) -> None:
        check_space(self.space)

    def slots(self, height: int, width: int) -> list[tuple[Op, float]]:
        parts = [step / (BINS - 1) for step in range(BINS)]
        return [SPACES[self.space].slot(name, part, height, width) for part in parts for name in NAMES]

    def choice(self) -> tuple[int, int, Sequence[int]]:
        return kernels.CHOOSE, 1, ()

    def expected_ops(self) -> float:
        return 1.0

    def to_json(self) -> dict[str, Any]:
        return _about(self)


# (op, probability in tenths, magnitude 0 to 9) twice; magnitudes of ops without a strength are kept as published.
_Half = tuple[str, int, int]
CIFAR10_POLICY: tuple[tuple[_Half, _Half], ...] = (
    (("Invert", 1, 7), ("Contrast", 2, 6)),
    (("Rotate", 7, 2), ("TranslateX", 3, 9)),
    (("Sharpness", 8, 1), ("Sharpness", 9, 3)),
    (("ShearY", 5, 8), ("TranslateY", 7, 9)),
    (("AutoContrast", 5, 8), ("Equalize", 9, 2)),
    (("ShearY", 2, 7), ("Posterize", 3, 7)),
    (("Color", 4, 3), ("Brightness", 6, 7)),
    (("Sharpness", 3, 9), ("Brightness", 7, 9)),
    (("Equalize", 6, 5), ("Equalize", 5, 1)),
    (("Contrast", 6, 7), ("Sharpness", 6, 5)),
    (("Color", 7, 7), ("TranslateX", 5, 8)),
    (("Equalize", 3, 7), ("AutoContrast", 4, 8)),
    (("TranslateY", 4, 3), ("Sharpness", 2, 6)),
    (("Brightness", 9, 6), ("Color", 2, 8)),
    (("Solarize", 5, 2), ("Invert", 0, 3)),
    (("Equalize", 2, 0), ("AutoContrast", 6, 0)),
    (("Equalize", 2, 8), ("Equalize", 6, 4)),
    (("Color", 9, 9), ("Equalize", 6, 6)),
    (("AutoContrast", 8, 4), ("Solarize", 2, 8)),
    (("Brightness", 1, 3), ("Color", 7, 0)),
    (("Solarize", 4, 5), ("AutoContrast", 9, 3)),
    (("TranslateY", 9, 9), ("TranslateY", 7, 9)),
    (("AutoContrast", 9, 2), ("Solarize", 8, 3)),
    (("Equalize", 8, 8), ("Invert", 1, 3)),
    (("TranslateY", 7, 9), ("AutoContrast", 9, 1)),
)


@dataclass(frozen=True)
class AutoAugment(_WithoutVector):
    """The policy that AutoAugment found on reduced CIFAR-10: one of 25 pairs of ops, each op with its probability.

    Source: Cubuk et al., "AutoAugment", CVPR 2019, table of the policy found on reduced CIFAR-10. The paper trains with
    Cutout of 16 pixels behind it: `cutout=16` of the training. Listings in circulation differ in one number: the second
    Equalize of the 17th pair has probability 0.6 in the authors' code and in torchvision, 0.8 in some copies.

    Args:
        space: the ranges: "standard", those of the authors' code, in which the policy was found, or "mirrored",
            torchvision's.
    """

    space: str = "standard"
    kind: ClassVar[str] = "autoaugment"

    def __post_init__(self) -> None:
        if check_space(self.space) not in AUTOAUGMENT_BINS:
            names = " or ".join(f'"{name}"' for name in AUTOAUGMENT_BINS)
            raise InputError(f'`space` of AutoAugment must be {names}, got "{self.space}".')

    def slots(self, height: int, width: int) -> list[tuple[Op, float]]:
        steps = AUTOAUGMENT_BINS[self.space] - 1
        halves = [half for pair in CIFAR10_POLICY for half in pair]
        space = SPACES[self.space]
        return [space.slot(name, magnitude / steps, height, width) for name, _, magnitude in halves]

    def choice(self) -> tuple[int, int, Sequence[int]]:
        return kernels.PAIRS, 2, [tenths for pair in CIFAR10_POLICY for _, tenths, _ in pair]

    def expected_ops(self) -> float:
        return sum(tenths for pair in CIFAR10_POLICY for _, tenths, _ in pair) / 10 / len(CIFAR10_POLICY)

    def to_json(self) -> dict[str, Any]:
        return _about(self)
