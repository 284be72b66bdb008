"""The numbers behind the pictures of a schedule.

Source: figure 3 of the role-wise paper. For each op the mean over its copies, ops in alphabetical order. Probabilities
are divided by the largest sum over ops that any epoch has; magnitudes are not normalized.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float

from rolewise.augment import Policy, Schedule
from rolewise.errors import InputError

MOST_BARS = 20


@dataclass(frozen=True)
class ScheduleData:
    """A schedule as numbers.

    Attributes:
        ops: names, alphabetical.
        epochs: length of the schedule.
        probability: per op and epoch, the largest sum over ops being 1 (all zero if no op ever fires).
        magnitude: per op and epoch, mean level of the copies, 0 to 9.
        largest: divisor of the probabilities: the largest expected number of ops that want to fire, of
            each pair of copies the mean.
        bars: the epochs, counted from 0, for which magnitudes are drawn.
    """

    ops: tuple[str, ...]
    epochs: int
    probability: Float[np.ndarray, "op epoch"]
    magnitude: Float[np.ndarray, "op epoch"]
    largest: float
    bars: tuple[int, ...]

    @property
    def first(self) -> int | None:
        """The first epoch (from 0) in which any op may fire; None if there is none."""
        used = np.flatnonzero(self.probability.any(axis=0))
        return int(used[0]) if len(used) else None

    @property
    def used(self) -> tuple[str, ...]:
        """The ops with a probability or a magnitude other than 0 in any epoch."""
        drawn = (self.probability + self.magnitude).any(axis=1)
        return tuple(name for name, one in zip(self.ops, drawn, strict=True) if one)

    def steps(self) -> list[tuple[int, int]]:
        """Ranges of epochs (first, one past the last; from 0) over which nothing changes."""
        columns = zip(self.probability.T.tolist(), self.magnitude.T.tolist(), strict=True)
        lengths = [len(list(group)) for _, group in groupby(columns)]
        ends = np.cumsum(lengths).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


def schedule_data(schedule: Schedule) -> ScheduleData:
    """The numbers of a schedule.

    Raises:
        InputError: an epoch's policy is no PBA policy, so its ops have no probability and magnitude of their own.
    """
    policies = [policy for _, policy in schedule.segments]
    for number, policy in enumerate(policies):
        if not isinstance(policy, Policy):
            raise InputError(
                f"segment {number} of the schedule is {type(policy).__name__}, which has no probability and magnitude "
                "per op: such a schedule cannot be drawn."
            )
    names = sorted({setting[0] for policy in policies for setting in policy.settings})  # type: ignore[attr-defined]
    lengths = [length for length, _ in schedule.segments]
    columns = [_means(policy.settings, names) for policy in policies]  # type: ignore[attr-defined]
    # Epoch, op, (probability, magnitude).
    both = np.repeat(np.array(columns, dtype=np.float64), lengths, axis=0)
    probability, magnitude = both[:, :, 0].T / 10, both[:, :, 1].T
    largest = float(probability.sum(axis=0).max(initial=0.0))
    step = max(1, math.ceil(len(schedule) / MOST_BARS))
    return ScheduleData(
        ops=tuple(names),
        epochs=len(schedule),
        probability=probability / largest if largest else probability,
        magnitude=magnitude,
        largest=largest,
        bars=tuple(range(0, len(schedule), step)),
    )


def _means(settings: Sequence[tuple[str, int, int]], names: Sequence[str]) -> list[tuple[float, float]]:
    """Per op the mean probability (tenths) and level of its copies; 0 for an op that the policy lacks."""
    means = []
    for name in names:
        copies = [(probability, level) for op, probability, level in settings if op == name]
        count = max(1, len(copies))
        means.append((sum(one[0] for one in copies) / count, sum(one[1] for one in copies) / count))
    return means
