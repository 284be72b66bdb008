"""A claim as data: which numbers decide it, and the verdict over the seeds at hand.

A claim is a list of comparisons, each a sum of numbers of one seed that must be above zero. It is *verified* if every
comparison's 95 % interval lies above zero, *contradicted* if the interval of one lies below zero at the confidence that
all comparisons together need (Bonferroni), *undecided* otherwise. One seed decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rolewise.experiments.results import Results, What
from rolewise.experiments.statistics import CONFIDENCE, Difference, more_seeds, paired_difference

State = Literal["verified", "contradicted", "undecided", "not run"]


@dataclass(frozen=True)
class Quantity:
    """A number of a cell: its accuracy, or a fact of the schedule that was searched for it."""

    cell: str
    what: What = "accuracy"


@dataclass(frozen=True)
class Comparison:
    """A sum that the claim says is above zero.

    Args:
        title: title in words.
        plus: quantities that are added.
        minus: quantities that are subtracted.
        margin: constant that is added.
        points: True if the sum is a difference of accuracies, shown in points.
    """

    title: str
    plus: tuple[Quantity, ...]
    minus: tuple[Quantity, ...]
    margin: float = 0.0
    points: bool = True

    def values(self, results: Results) -> Mapping[int, tuple[float, float]]:
        """(what is added, what is subtracted) for each seed that has all of it."""
        sides = [[self._by_seed(results, one) for one in side] for side in (self.plus, self.minus)]
        every = [values for side in sides for values in side]
        seeds = sorted(set.intersection(*(set(values) for values in every)))
        first, second = sides
        return {
            seed: (sum(v[seed] for v in first) + self.margin, sum((v[seed] for v in second), 0.0))
            for seed in seeds
        }

    @staticmethod
    def _by_seed(results: Results, quantity: Quantity) -> Mapping[int, float]:
        cell = results.find(quantity.cell)
        return {} if cell is None else cell.values(quantity.what)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper.

    Args:
        name: short, for links.
        sentence: the claim.
        source: place in the paper.
        scope: "paper" for its own tables, "study" for the reduced ones.
        comparisons: all of them must hold.
    """

    name: str
    sentence: str
    source: str
    scope: Literal["paper", "study"]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Judged:
    """A comparison with what was measured.

    Args:
        comparison: the comparison.
        difference: over the seeds; None if no seed has all of it.
    """

    comparison: Comparison
    difference: Difference | None


@dataclass(frozen=True)
class Verdict:
    """A claim with its verdict.

    Args:
        claim: the sentence.
        state: verdict.
        reason: why, in words.
        judged: each comparison.
        more_seeds: further seeds that would decide if mean and deviation stayed; None where that cannot be said.
        scale: "smoke", "scale 0.1" or "full".
    """

    claim: Claim
    state: State
    reason: str
    judged: tuple[Judged, ...]
    more_seeds: int | None
    scale: str


def judge(claim: Claim, results: Results) -> Verdict:
    """The verdict over the results at hand."""
    count = len(claim.comparisons)
    strict = 1 - (1 - CONFIDENCE) / count
    judged, against, open_ = [], [], []
    for comparison in claim.comparisons:
        pairs = list(comparison.values(results).values())
        if not pairs:
            judged.append(Judged(comparison, None))
            continue
        first, second = zip(*pairs, strict=True)
        difference = paired_difference(first, second)
        judged.append(Judged(comparison, difference))
        harder = paired_difference(first, second, strict)
        if harder.high is not None and harder.high < 0:
            against.append(comparison.title)
        elif difference.low is None or difference.low <= 0:
            open_.append(difference)
    run = sum(one.difference is not None for one in judged)
    more: int | None = None
    if not run:
        state: State = "not run"
        reason = "none of its cells has a result"
    elif against:
        state, reason = "contradicted", "the opposite holds: " + "; ".join(against)
    elif not open_ and run == count:
        state, reason = "verified", _above(count)
    else:
        state = "undecided"
        reason, more = _undecided(open_, run, count)
    return Verdict(claim, state, reason, tuple(judged), more, results.title)


def _above(count: int) -> str:
    return "the interval lies above zero" if count == 1 else f"all {count} intervals lie above zero"


def _undecided(open_: list[Difference], run: int, count: int) -> tuple[str, int | None]:
    parts = [] if run == count else [f"{run} of {count} comparisons have results"]
    if not open_:
        return "; ".join(parts), None
    if any(one.n == 1 for one in open_):
        return "; ".join([*parts, "one seed has no interval"]), 1
    parts.append(
        f"{len(open_)} of {run} intervals hold zero or less" if run > 1 else "the interval holds zero or less"
    )
    needed = [more_seeds(one) for one in open_]
    if any(number is None for number in needed):
        return "; ".join([*parts, "more seeds need not decide it"]), None
    most = max(number for number in needed if number is not None)
    seeds = "1 more seed" if most == 1 else f"{most} more seeds"
    return "; ".join([*parts, f"about {seeds} would decide, if means and deviations stay"]), most
