"""Searches without decisions, to compare a search with: as many members, epochs and images.

Each member has a schedule of its own from beginning to end, and the best one at the end is the result.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from rolewise.augment import PUBLISHED, SPACES, AutoAugment, Policy, RandAugment, Schedule
from rolewise.errors import InputError, InputTypeError
from rolewise.population.pbt import MAGNITUDE_MAX, PROBABILITY_MAX, VECTOR_LENGTH
from rolewise.population.strategy import Decision, Strategy, Vector
from rolewise.seeds import derive_seed, numpy_generator

_RANDAUGMENT_LEVELS = 30
_RANDAUGMENT_OPS = 3  # the RandAugment paper searches 1 to 3 ops an image


class Control(Strategy):
    """A strategy without decisions."""

    decides: ClassVar[bool] = False

    def decide(
        self, scores: Sequence[float | None], vectors: Sequence[Vector | None], rng: np.random.Generator
    ) -> list[Decision]:
        return []


class RandomSchedules(Control):
    """For each member every `interval` epochs a vector, each entry uniform over its range."""

    name: ClassVar[str] = "random"

    def beginnings(self, seed: int, role: str) -> list[Schedule]:
        settings = self.settings
        seeds = [derive_seed(seed, "control", role, member) for member in range(settings.population)]
        return [Schedule.random(settings.epochs, one, settings.interval) for one in seeds]


class ConstantPolicies(Control):
    """For each member one vector for all epochs, each entry uniform over its range."""

    name: ClassVar[str] = "constant"

    def beginnings(self, seed: int, role: str) -> list[Schedule]:
        high = np.resize([PROBABILITY_MAX, MAGNITUDE_MAX], VECTOR_LENGTH)
        generators = (
            numpy_generator(seed, "control", role, member) for member in range(self.settings.population)
        )
        draws = [generator.integers(0, high + 1) for generator in generators]
        return [Schedule.constant(Policy.from_vector(draw), self.settings.epochs) for draw in draws]


class RandAugmentGrid(Control):
    """For each member a point of a grid of (ops per image, magnitude), see `randaugment_grid`.

    A subclass names the level space, a key of `rolewise.augment.SPACES`.
    """

    space: ClassVar[str]

    def beginnings(self, seed: int, role: str) -> list[Schedule]:
        grid = randaugment_grid(self.settings.population)
        policies = [RandAugment(ops, level, self.space) for ops, level in grid]
        return [Schedule.constant(policy, self.settings.epochs) for policy in policies]


class PublishedPolicy(Control):
    """For every member the same published policy in all epochs; members differ in their weights and batches alone.

    A subclass has the name of one in `rolewise.augment.PUBLISHED`.
    """

    def beginnings(self, seed: int, role: str) -> list[Schedule]:
        return [Schedule.named(self.name, self.settings.epochs)] * self.settings.population


class GivenSchedules(Control):
    """For each member a schedule of the caller's."""

    name: ClassVar[str] = "given"
    takes_schedules: ClassVar[bool] = True

    def beginnings(self, seed: int, role: str) -> list[Schedule]:
        schedules, epochs = list(self.schedules or ()), self.settings.epochs
        for number, schedule in enumerate(schedules):
            if not isinstance(schedule, Schedule):
                raise InputTypeError(f"`method[{number}]` must be a Schedule, got {type(schedule).__name__}.")
            if len(schedule) != epochs:
                raise InputError(
                    f"`method[{number}]` holds {len(schedule)} epochs, but the search has {epochs}: "
                    f".stretch({epochs}) makes it fit."
                )
        if len(schedules) != self.settings.population:
            raise InputError(
                f"`method` holds {len(schedules)} schedules, but `population` is {self.settings.population}: "
                "each member needs one."
            )
        return schedules


def published_control(word: str) -> type[Control]:
    """The control that bears the name of a published policy, so that one word means one level space everywhere.

    RandAugment has two numbers that its paper chooses by a grid search for each network and data set, so its control
    is that search: a schedule of the same word is the point (2, 9) of its space. The other policies have nothing to
    search.

    Args:
        word: a key of `rolewise.augment.PUBLISHED`.
    """
    published = PUBLISHED[word]
    source = SPACES[published.space].source.partition(":")[0]
    usual, named = (
        f'its usual level space, "{published.space}"',
        f'level space "{published.space}" ({source})',
    )
    where = usual if word == published.kind else named
    if isinstance(published, RandAugment):

        class Grid(RandAugmentGrid):
            __doc__ = (
                f"RandAugment, for each member a point of a grid of (ops per image, magnitude), in {where}."
            )
            name: ClassVar[str] = word
            space: ClassVar[str] = published.space

        return Grid
    policy = "AutoAugment's CIFAR-10 policy" if isinstance(published, AutoAugment) else "TrivialAugment"

    class Same(PublishedPolicy):
        __doc__ = f"{policy} for every member, in {where}."
        name: ClassVar[str] = word

    return Same


def randaugment_grid(population: int) -> list[tuple[int, int]]:
    """`population` points (ops per image, magnitude 1..30): rows of 1 to 3 ops, each evenly spaced up to 30."""
    rows = min(_RANDAUGMENT_OPS, max(1, population // 4))
    sizes = [population // rows + (row < population % rows) for row in range(rows)]
    return [
        (row + 1, round(_RANDAUGMENT_LEVELS * (column + 1) / size))
        for row, size in enumerate(sizes)
        for column in range(size)
    ]
