"""Arms of an experiment, one word each: where the schedule of a training comes from.

All arms of one seed see the same images in the same order, start from the same weights and train equally long, so that
their differences are paired. The arms that end in `-search` are also given the budget of the search.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rolewise._roles import A_S, A_T
from rolewise.augment import AutoAugment, BasePolicy, Policy, RandAugment, Schedule, TrivialAugment
from rolewise.errors import InputError, unknown
from rolewise.population.pbt import MAGNITUDE_MAX, PROBABILITY_MAX, VECTOR_LENGTH
from rolewise.seeds import derive_seed, numpy_generator

Maker = Callable[[int, int, Schedule | None], Schedule]  # (epochs, seed, the searched schedule) -> schedule
Base = Literal["a_t", "a_s"]


@dataclass(frozen=True)
class Arm:
    """Where a schedule comes from.

    Args:
        word: name of the arm.
        title: title in tables.
        base: the search that it needs, "a_t" or "a_s"; None for none.
        make: makes the schedule of (epochs, seed, the searched one); None where the searched one is taken as it is.
        other_data: the search is that of the other CIFAR data set.
        method: method of that search, a control of equal budget instead of "pbt".
        file: the schedule comes from a file that the user names.
        train: settings of the training in addition to the schedule, such as {"cutmix": 1.0}.
    """

    word: str
    title: str
    base: Base | None = None
    make: Maker | None = None
    other_data: bool = False
    method: str = "pbt"
    file: bool = False
    train: Mapping[str, float] = field(default_factory=dict)


def _random(epochs: int, seed: int, searched: Schedule | None) -> Schedule:
    return Schedule.random(epochs, derive_seed(seed, "arm", "random"))


def _constant(epochs: int, seed: int, searched: Schedule | None) -> Schedule:
    high = np.resize([PROBABILITY_MAX, MAGNITUDE_MAX], VECTOR_LENGTH)
    draw = numpy_generator(seed, "arm", "constant").integers(0, high + 1)
    return Schedule.constant(Policy.from_vector(draw), epochs)


def _shuffled(epochs: int, seed: int, searched: Schedule | None) -> Schedule:
    return _given(searched).stretch(epochs).shuffled(derive_seed(seed, "arm", "shuffled"))


def _final(epochs: int, seed: int, searched: Schedule | None) -> Schedule:
    found = _given(searched)
    return Schedule.constant(found[len(found) - 1], epochs)


def _given(searched: Schedule | None) -> Schedule:
    if searched is None:
        raise InputError("This arm changes a searched schedule, and none was given.")
    return searched


def _arms() -> dict[str, Arm]:
    arms = (
        Arm("none", "no schedule"),
        Arm("a_t", A_T, "a_t"),
        Arm("a_s", A_S, "a_s"),
        Arm("a_t-other", "A_T of the other data set", "a_t", other_data=True),
        Arm("a_s-other", "A_S of the other data set", "a_s", other_data=True),
        Arm("constant", "one random policy for all epochs", make=_constant),
        Arm("random", "random policies", make=_random),
        Arm("shuffled", "A_S in random order", "a_s", _shuffled),
        Arm("final", "last policy of A_S for all epochs", "a_s", _final),
        Arm("randaugment", "RandAugment", make=_fixed(RandAugment())),
        Arm("trivialaugment", "TrivialAugment, RA space", make=_fixed(TrivialAugment("standard"))),
        Arm("trivialaugment-wide", "TrivialAugment, wide", make=_fixed(TrivialAugment("mirrored-wide"))),
        Arm("autoaugment", "AutoAugment, CIFAR-10 policy", make=_fixed(AutoAugment())),
        Arm("pba-published", "PBA's published schedule", file=True),
        Arm("cutmix", "CutMix", train={"cutmix": 1.0}),
        Arm("mixup", "Mixup", train={"mixup": 1.0}),
        Arm("random-search", "random policies, best of a search", "a_s", method="random"),
        Arm("constant-search", "one policy, best of a search", "a_s", method="constant"),
        Arm("randaugment-search", "RandAugment, best of a search", "a_s", method="randaugment"),
    )
    return {arm.word: arm for arm in arms}


def _fixed(policy: BasePolicy) -> Maker:
    def make(epochs: int, seed: int, searched: Schedule | None) -> Schedule:
        return Schedule.constant(policy, epochs)

    return make


ARMS = _arms()


def find_arm(word: str) -> Arm:
    """The arm of this word.

    Raises:
        InputError: an unknown word; the nearest is named.
    """
    if word not in ARMS:
        raise InputError(unknown("arm", word, ARMS))
    return ARMS[word]
