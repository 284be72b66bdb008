"""Intervals and tests against SciPy and by enumeration."""

import itertools
import math

import pytest
from scipy import stats

from rolewise.errors import InputError
from rolewise.experiments import statistics as ours

FIRST = [0.531, 0.548, 0.529, 0.561, 0.540]
SECOND = [0.522, 0.551, 0.517, 0.540, 0.533]


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 15, 40, 250])
@pytest.mark.parametrize("probability", [0.005, 0.1, 0.5, 0.9, 0.975, 0.9995])
def test_t_quantile(degrees, probability):
    assert ours.t_quantile(probability, degrees) == pytest.approx(
        stats.t.ppf(probability, degrees), rel=1e-10, abs=1e-12
    )


@pytest.mark.parametrize("degrees", [1, 2, 5, 30, 999])
@pytest.mark.parametrize("t", [0.0, 0.01, 0.7, 2.0, 9.0, 80.0])
def test_t_two_sided(degrees, t):
    assert ours.t_two_sided(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), rel=1e-9, abs=1e-300)


def test_summary_is_scipys_interval():
    found = ours.summarize(FIRST)
    low, high = stats.t.interval(0.95, len(FIRST) - 1, stats.tmean(FIRST), stats.sem(FIRST))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)
    assert found.sd == pytest.approx(stats.tstd(FIRST), rel=1e-12)
    assert found.n == 5


def test_paired_difference_is_scipys_paired_t_test():
    found, theirs = ours.paired_difference(FIRST, SECOND), stats.ttest_rel(FIRST, SECOND)
    interval = theirs.confidence_interval(0.95)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.inside_noise == (interval.low <= 0 <= interval.high)
    assert found.improvement == stats.mannwhitneyu(FIRST, SECOND).statistic / 25


def test_one_seed_has_no_interval():
    found = ours.paired_difference([0.6], [0.5])
    assert (found.n, found.sd, found.low, found.p_value) == (1, None, None, None)
    assert found.inside_noise
    assert ours.summarize([0.6]).low is None
    assert ours.more_seeds(found) is None


def test_equal_runs_differ_by_nothing():
    found = ours.paired_difference([0.5, 0.6], [0.5, 0.6])
    assert (found.mean, found.p_value, found.improvement) == (0, 1, 0.5)


# Published: Brown, Cai, DasGupta 2001, and R's binom.confint(method="wilson").
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (8, 10, 0.4901625, 0.9433178),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (50, 100, 0.4038315, 0.5961685),
    ],
)
def test_wilson_as_published(k: int, n: int, low: float, high: float) -> None:
    assert ours.wilson_interval(k / n, n) == pytest.approx((low, high), abs=5e-8)


@pytest.mark.parametrize(("right", "n"), [(0, 30), (17, 30), (30, 30), (5_433, 10_000)])
def test_wilson(right, n):
    theirs = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert ours.wilson_interval(right / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 9), (9, 3), (400, 471), (6, 6)])
def test_mcnemar_is_the_exact_binomial_test(first, second):
    found = ours.mcnemar(
        [True] * first + [False] * second + [True] * 7, [False] * first + [True] * second + [True] * 7
    )
    assert (found.first_only, found.second_only) == (first, second)
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p_value == pytest.approx(expected, rel=1e-10)


def test_mcnemar_by_enumeration():
    """Three images differ, all in favor of the first: 2 of the 8 ways are as extreme."""
    ways = [sum(way) for way in itertools.product([0, 1], repeat=3)]
    extreme = sum(heads in (0, 3) for heads in ways) / len(ways)
    assert ours.mcnemar([True] * 3, [False] * 3).p_value == extreme == 0.25


def test_more_seeds_is_the_least_number_that_excludes_zero():
    difference = ours.paired_difference([0.51, 0.54, 0.50], [0.50, 0.50, 0.50])
    more = ours.more_seeds(difference)
    assert difference.inside_noise
    assert more is not None

    def half(n):
        return stats.t.ppf(0.975, n - 1) * difference.sd / math.sqrt(n)

    assert half(3 + more) < abs(difference.mean) <= half(3 + more - 1)


def test_bad_input():
    with pytest.raises(InputError, match="`values` must hold at least one"):
        ours.summarize([])
    with pytest.raises(InputError, match="the same seeds, at least one, got 2 and 1"):
        ours.paired_difference([0.1, 0.2], [0.1])
    with pytest.raises(InputError, match="same test images, got 1 and 2"):
        ours.mcnemar([True], [True, False])
