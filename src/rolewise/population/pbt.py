"""The decisions of population based augmentation: scores in, moves out; nothing here trains, reads or writes.

Source: Ho et al., "Population Based Augmentation", ICML 2019, with the numbers of the role-wise authors'
release.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rolewise.errors import InputError, InputTypeError
from rolewise.settings.search import POPULATION_MAX, POPULATION_MIN, QUANTILE, RESAMPLE

PROBABILITY_MAX = 10  # tenths; entries of even index
MAGNITUDE_MAX = 9  # levels; entries of odd index
VECTOR_LENGTH = 60
_STEP_MAX = 3


class Move(NamedTuple):
    """Member `target` continues from a copy of member `source`, under an explored policy."""

    target: int
    source: int


def explore(vector: Sequence[int], rng: np.random.Generator, *, resample: float = RESAMPLE) -> list[int]:
    """A mutation of a policy vector, entry by entry.

    With probability `resample` an entry is redrawn, uniformly over its range; otherwise it moves by a step
    that is uniform over 0..3, up or down with equal chance, and is clipped at the ends of its range. A vector
    takes the same number of draws whatever its values.

    Args:
        vector: 60 integers, probability (0..10) and magnitude (0..9) in turn; not changed.
        rng: source of all chance.
        resample: probability that an entry is redrawn, 0 to 1.

    Raises:
        InputTypeError: entries that are not integers.
        InputError: not 60 entries, or one out of its range; `resample` out of range.
    """
    values = check_vector(vector)
    check_resample(resample)
    high = np.resize([PROBABILITY_MAX, MAGNITUDE_MAX], VECTOR_LENGTH)
    redrawn = rng.random(VECTOR_LENGTH) < resample
    drawn = rng.integers(0, high + 1)
    step = rng.integers(0, _STEP_MAX + 1, VECTOR_LENGTH)
    down = rng.random(VECTOR_LENGTH) < 0.5
    moved = np.clip(np.where(down, values - step, values + step), 0, high)
    return [int(entry) for entry in np.where(redrawn, drawn, moved)]


def exploit(
    scores: Sequence[float | None], rng: np.random.Generator, *, quantile: float = QUANTILE
) -> list[Move]:
    """Which members are overwritten, and by whom: truncation selection.

    The worst n = max(1, ceil(quantile * N)), at most N // 2, are targets; each takes one of the best n,
    uniformly. Of equal scores the lower id is better. A member without a score (None, NaN or minus
    infinity: it diverged) is worst, and no source as long as one of the best n has one.

    Args:
        scores: one for each member, the higher the better; a member's id is its position.
        rng: source of all chance; one draw for each target, in ascending order of the targets.
        quantile: share of the population, above 0 and at most 0.5.

    Returns:
        The moves, in ascending order of the targets.

    Raises:
        InputError: fewer than 4 or more than 64 scores, or a quantile out of range.
    """
    check_population(len(scores))
    check_quantile(quantile)
    order = ranking(scores)
    n = moves_per_round(len(scores), quantile)
    best, worst = order[:n], order[-n:]
    sources = [member for member in best if sound(scores[member])] or best
    return [Move(target, sources[int(rng.integers(len(sources)))]) for target in sorted(worst)]


def ranking(scores: Sequence[float | None]) -> list[int]:
    """Members from best to worst: by score, those without one last, the lower id first at equal scores."""
    return sorted(range(len(scores)), key=lambda member: (-comparable(scores[member]), member))


def moves_per_round(population: int, quantile: float = QUANTILE) -> int:
    """How many members one exploit overwrites."""
    return min(max(1, math.ceil(quantile * population)), population // 2)


def boundaries(epochs: int, interval: int) -> list[int]:
    """Completed epochs at which all members are evaluated: every `interval`, and the end (67 for 200 epochs
    at 3)."""
    return [*range(interval, epochs, interval), epochs]


def comparable(score: float | None) -> float:
    """The score as a number to rank by; minus infinity where there is none (None or NaN)."""
    return -math.inf if score is None or math.isnan(score) else float(score)


def sound(score: float | None) -> bool:
    """Whether there is a score: the member did not diverge."""
    return comparable(score) > -math.inf


def check_vector(vector: Sequence[int]) -> np.ndarray:
    """A policy vector as an array of 60 integers, each within its range."""
    values = np.asarray(vector)
    if values.shape != (VECTOR_LENGTH,):
        raise InputError(f"`vector` must hold {VECTOR_LENGTH} integers, got shape {values.shape}.")
    if not np.issubdtype(values.dtype, np.integer):
        raise InputTypeError(
            f"`vector` must hold {VECTOR_LENGTH} integers, got entries of type {values.dtype}."
        )
    values = values.astype(np.int64)
    for index, entry in enumerate(values.tolist()):
        high, kind = (MAGNITUDE_MAX, "magnitude") if index % 2 else (PROBABILITY_MAX, "probability")
        if not 0 <= entry <= high:
            raise InputError(f"`vector[{index}]` ({kind}) must be an integer from 0 to {high}, got {entry}.")
    return values


def check_population(population: int) -> None:
    """Raises InputError unless truncation selection works with so many members."""
    if not POPULATION_MIN <= population <= POPULATION_MAX:
        raise InputError(
            f"`population` must be an integer from {POPULATION_MIN} to {POPULATION_MAX}, got {population}."
        )


def check_quantile(quantile: float) -> None:
    """Raises InputError unless worst and best members of this share are apart."""
    if not 0 < quantile <= 0.5:
        raise InputError(
            f"`quantile` must be a number above 0 and at most 0.5, got {quantile}: sources and targets "
            "are different members."
        )


def check_resample(resample: float) -> None:
    """Raises InputError unless it is a probability."""
    if not 0 <= resample <= 1:
        raise InputError(f"`resample` must be a number from 0 to 1, got {resample}.")
