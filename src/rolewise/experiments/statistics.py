"""Intervals and tests for accuracies of a few seeds and of one finite test set.

Every function is a closed formula in double precision; none draws random numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from rolewise.errors import InputError

CONFIDENCE = 0.95
_FRACTION_STEPS = 10_000
_TINY = 1e-300
_PRECISION = 1e-16
_MOST_SEEDS = 1_000  # a number of further seeds above that decides nothing in practice


@dataclass(frozen=True)
class Summary:
    """Several accuracies of one cell.

    Args:
        n: number of seeds.
        mean: arithmetic mean.
        sd: sample standard deviation (n - 1); None for one seed.
        low: lower end of the Student-t interval of the mean; None for one seed.
        high: upper end.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A paired difference between two arms over the seeds that both have.

    Args:
        n: number of pairs.
        mean: mean of first minus second.
        sd: sample standard deviation of the differences; None for one pair.
        low: lower end of the Student-t interval; None for one pair.
        high: upper end.
        p_value: two-sided p-value of the paired t-test; None for one pair.
        improvement: probability of improvement, `probability_of_improvement`.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p_value: float | None
    improvement: float

    @property
    def inside_noise(self) -> bool:
        """Whether the interval holds zero, or cannot be computed."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


def summarize(values: Sequence[float], confidence: float = CONFIDENCE) -> Summary:
    """Mean, standard deviation and Student-t interval of the mean.

    Raises:
        InputError: no values.
    """
    if not values:
        raise InputError("`values` must hold at least one accuracy, got none.")
    mean, n = fmean(values), len(values)
    if n == 1:
        return Summary(1, mean, None, None, None)
    sd = stdev(values)
    half = t_quantile((1 + confidence) / 2, n - 1) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def paired_difference(
    first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE
) -> Difference:
    """First minus second, seed by seed.

    Args:
        first: accuracies by seed.
        second: accuracies of the same seeds in the same order.
        confidence: coverage of the interval, in (0, 1).

    Raises:
        InputError: no pairs, or lengths that differ.
    """
    if len(first) != len(second) or not first:
        raise InputError(
            f"`first` and `second` must hold the same seeds, at least one, got {len(first)} and {len(second)}."
        )
    differences = [a - b for a, b in zip(first, second, strict=True)]
    of_mean = summarize(differences, confidence)
    improvement = probability_of_improvement(first, second)
    p_value = None
    if of_mean.sd is not None:
        error = of_mean.sd / math.sqrt(of_mean.n)
        p_value = t_two_sided(of_mean.mean / error, of_mean.n - 1) if error > 0 else float(of_mean.mean == 0)
    return Difference(of_mean.n, of_mean.mean, of_mean.sd, of_mean.low, of_mean.high, p_value, improvement)


def probability_of_improvement(first: Sequence[float], second: Sequence[float]) -> float:
    """P(first > second) over all pairs of runs, ties counted half: the Mann-Whitney statistic over n * m.

    Source: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021.
    """
    wins = sum((a > b) + (a == b) / 2 for a in first for b in second)
    return wins / (len(first) * len(second))


def wilson_interval(accuracy: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of an accuracy that was measured on `n` test images: Wilson's score interval.

    It is what a finite test set leaves open about one trained network, whatever the seeds say.

    Args:
        accuracy: fraction of right answers.
        n: number of test images, >= 1.
        confidence: coverage, in (0, 1).

    Source: Wilson, JASA 1927.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    center = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


@dataclass(frozen=True)
class McNemar:
    """Two networks on the same test images.

    Args:
        first_only: images that only the first network classifies correctly.
        second_only: images that only the second network classifies correctly.
        p_value: exact two-sided p-value.
    """

    first_only: int
    second_only: int
    p_value: float


def mcnemar(first_right: Sequence[bool], second_right: Sequence[bool]) -> McNemar:
    """The exact McNemar test: of the images on which the networks differ, is either favored?

    Source: McNemar, Psychometrika 1947; exact binomial form with p = 1/2.

    Raises:
        InputError: lengths that differ.
    """
    if len(first_right) != len(second_right):
        raise InputError(
            f"McNemar's test needs the same test images, got {len(first_right)} and {len(second_right)}."
        )
    first = sum(bool(a) and not b for a, b in zip(first_right, second_right, strict=True))
    second = sum(bool(b) and not a for a, b in zip(first_right, second_right, strict=True))
    return McNemar(first, second, _binomial_two_sided(min(first, second), first + second))


def more_seeds(difference: Difference, confidence: float = CONFIDENCE) -> int | None:
    """How many further seeds would take zero out of the interval, if mean and deviation stayed as they are.

    Returns:
        None where it cannot be said: one seed, a mean of zero, or more than 1,000 seeds.
    """
    if difference.sd is None or difference.mean == 0:
        return None
    for n in range(difference.n + 1, _MOST_SEEDS + 1):
        half = t_quantile((1 + confidence) / 2, n - 1) * difference.sd / math.sqrt(n)
        if half < abs(difference.mean):
            return n - difference.n
    return None


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution, by bisection of `t_two_sided`.

    Args:
        probability: probability in (0, 1).
        degrees: degrees of freedom, >= 1.
    """
    if probability == 0.5:
        return 0.0
    tail = 2 * min(probability, 1 - probability)
    low, high = 0.0, 1.0
    while t_two_sided(high, degrees) > tail:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if t_two_sided(middle, degrees) > tail else (low, middle)
    return high if probability > 0.5 else -high


def t_two_sided(t: float, degrees: float) -> float:
    """P(|T| >= |t|) of Student's t distribution."""
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _beta_fraction(a, b, x))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """1 + d1 / (1 + d2 / (1 + ...)) of DLMF 8.17.22, by the modified Lentz method."""
    value = upper = 1.0
    lower = 0.0
    for step in range(1, _FRACTION_STEPS):
        m, odd = divmod(step, 2)
        if odd:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1 / (1 + term * lower or _TINY)
        upper = 1 + term / upper or _TINY
        value *= upper * lower
        if abs(upper * lower - 1) < _PRECISION:
            break
    return value


def _binomial_two_sided(least: int, n: int) -> float:
    """Twice the probability of at most `least` heads in `n` throws, at most 1; exact integers."""
    below = sum(math.comb(n, k) for k in range(least + 1))
    return float(min(1.0, 2 * below / 2**n))
