"""The paper's sentences as data: which numbers decide each, and the verdict over the seeds at hand.

A claim is a list of comparisons, each a sum of numbers of one seed that must be above zero. It is *verified* if every
comparison's 95 % interval lies above zero, *contradicted* if the interval of one lies below zero at the confidence that
all comparisons together need (Bonferroni), *undecided* otherwise. One seed decides nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rolewise.experiments import study
from rolewise.experiments.results import Results, What
from rolewise.experiments.setups import FULL
from rolewise.experiments.statistics import CONFIDENCE, Difference, more_seeds, paired_difference
from rolewise.experiments.tables import DATA, LOSSES, NETWORKS

State = Literal["verified", "contradicted", "undecided", "not run"]
REACHES = 0.005  # half a point: so much below still counts as reached
LATE = 0.1  # part of a schedule that must pass before it "starts without augmentation"


@dataclass(frozen=True)
class Quantity:
    """A number of a cell: its accuracy, or a fact of the schedule that was searched for it."""

    cell: str
    what: What = "accuracy"


@dataclass(frozen=True)
class Comparison:
    """A sum that the claim says is above zero.

    Args:
        title: in words.
        plus: quantities that are added.
        minus: quantities that are subtracted.
        margin: constant that is added.
        points: whether the sum is a difference of accuracies, shown in points.
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
        sentence: what is claimed.
        source: where the paper says so.
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
        comparison: what is compared.
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
    parts.append(
        f"{len(open_)} of {run} intervals hold zero or less" if run > 1 else "the interval holds zero or less"
    )
    if any(one.n == 1 for one in open_):
        return "; ".join([*parts, "one seed has no interval"]), 1
    needed = [more_seeds(one) for one in open_]
    if any(number is None for number in needed):
        return "; ".join([*parts, "more seeds need not decide it"]), None
    most = max(number for number in needed if number is not None)
    seeds = "1 more seed" if most == 1 else f"{most} more seeds"
    return "; ".join([*parts, f"about {seeds} would decide, if means and deviations stay"]), most


def verdicts(results: Results) -> tuple[Verdict, ...]:
    """Of all claims in whose scope any cell was asked for."""
    scopes = {"study" if one.cell.table == "study" else "paper" for one in results.cells}
    return tuple(judge(claim, results) for claim in CLAIMS if claim.scope in scopes)


def _accuracy(title: str, better: str, worse: str, margin: float = 0.0) -> Comparison:
    return Comparison(title, (Quantity(better),), (Quantity(worse),), margin)


def _table2(data: str, network: str, bits: int, kind: str, schedule: str) -> str:
    name = "fp32" if bits == FULL else f"w{bits}a{bits}"
    return f"table2/{data}/{network}/{name}/{kind}/{schedule}"


def _pairs() -> Iterator[tuple[str, str, str]]:
    for network, shown in NETWORKS.items():
        for data, title in DATA.items():
            yield data, network, f"{shown} {title}"


_LOW = (4, 2)


def _paper_claims() -> Iterator[Claim]:
    yield Claim(
        "distillation", "Distillation beats training without it at low bits", "table 2", "paper",
        tuple(
            _accuracy(
                f"{title}, {bits} bit: II-KD only against vanilla",
                _table2(data, network, bits, "ii-kd", "none"),
                _table2(data, network, bits, "no-kd", "none"),
            )
            for data, network, title in _pairs() for bits in _LOW
        ),
    )  # fmt: skip
    yield Claim(
        "own-schedule", "The student's own schedule beats the teacher's, for every loss", "table 3", "paper",
        tuple(
            _accuracy(
                f"{shown}, {LOSSES[loss]}: A_S against A_T",
                f"table3/cifar100/{network}/w4a4/{loss}/a_s",
                f"table3/cifar100/{network}/w4a4/{loss}/a_t",
            )
            for network, shown in NETWORKS.items() for loss in ("dml", "mhgd", "ii-kd")
        ),
    )  # fmt: skip
    yield Claim(
        "ii-kd", "II-KD is the best of the six losses", "table 1", "paper",
        tuple(
            _accuracy(
                f"{bits} bit: II-KD against {LOSSES[loss]}",
                f"table1/cifar100/resnet18/w{bits}a{bits}/ii-kd/a_s",
                f"table1/cifar100/resnet18/w{bits}a{bits}/{loss}/a_s",
            )
            for bits in _LOW for loss in LOSSES if loss != "ii-kd"
        ),
    )  # fmt: skip
    yield Claim(
        "stage-beta", "Stage beta beats distillation alone", "table 2", "paper",
        tuple(
            _accuracy(
                f"{title}, {bits} bit: with A_S against without a schedule",
                _table2(data, network, bits, "ii-kd", "a_s"),
                _table2(data, network, bits, "ii-kd", "none"),
            )
            for data, network, title in _pairs() for bits in _LOW
        ),
    )  # fmt: skip
    yield Claim(
        "stage-alpha", "Stage alpha helps full precision, and low bits less", "table 2", "paper",
        tuple(_alpha(data, network, title, bits) for data, network, title in _pairs() for bits in (FULL, *_LOW)),
    )  # fmt: skip
    yield Claim(
        "four-bits", "4 bits reach full precision on CIFAR-10 (within half a point)", "table 2", "paper",
        tuple(
            _accuracy(
                f"{shown}: 4 bit after stage beta against vanilla 32 bit, half a point added",
                _table2("cifar10", network, 4, "ii-kd", "a_s"),
                _table2("cifar10", network, FULL, "no-kd", "none"),
                REACHES,
            )
            for network, shown in NETWORKS.items()
        ),
    )  # fmt: skip
    yield _figure3(
        "paper",
        "table2/cifar100/resnet18/fp32/no-kd/a_t",
        {"4 bit": "table1/cifar100/resnet18/w4a4/ii-kd/a_s"},
    )


def _alpha(data: str, network: str, title: str, bits: int) -> Comparison:
    def cell(width: int, schedule: str) -> Quantity:
        return Quantity(_table2(data, network, width, "no-kd", schedule))

    if bits == FULL:
        return Comparison(
            f"{title}, 32 bit: A_T against vanilla", (cell(FULL, "a_t"),), (cell(FULL, "none"),)
        )
    return Comparison(
        f"{title}: gain at 32 bit against gain at {bits} bit",
        (cell(FULL, "a_t"), cell(bits, "none")),
        (cell(FULL, "none"), cell(bits, "a_t")),
    )


def _figure3(scope: Literal["paper", "study"], teacher: str, students: Mapping[str, str]) -> Claim:
    comparisons: list[Comparison] = []
    for title, student in students.items():
        start, changes = Quantity(student, "first_epoch"), Quantity(student, "changes")
        comparisons += [
            Comparison(
                f"{title}: part of A_S before its first augmentation, above {LATE:g}",
                (start,),
                (),
                -LATE,
                points=False,
            ),
            Comparison(
                f"{title}: changes of policy, A_T less A_S",
                (Quantity(teacher, "changes"),),
                (changes,),
                points=False,
            ),
        ]
    return Claim(
        "figure3",
        "The student's schedule starts without augmentation and changes less often than the teacher's",
        "figure 3", scope, tuple(comparisons),
    )  # fmt: skip


def _study_claims() -> Iterator[Claim]:
    def cell(bits: int, kind: str, schedule: str) -> str:
        name = "fp32" if bits == FULL else f"w{bits}a{bits}"
        return f"study/{study.DATA}/{study.NETWORK}/{name}/{kind}/{schedule}"

    def each(claim: str, sentence: str, source: str, better: str, worse: str, words: str) -> Claim:
        comparisons = tuple(
            _accuracy(
                f"{bits} bit, {LOSSES[loss]}: {words}",
                cell(bits, better.split()[0].replace("KD", loss), better.split()[1]),
                cell(bits, worse.split()[0].replace("KD", loss), worse.split()[1]),
            )
            for bits in study.BITS
            for loss in study.LOSSES
        )
        return Claim(claim, sentence, source, "study", comparisons)

    teacher = cell(FULL, "teacher", "a_t")
    yield each(
        "distillation", "Distillation beats training without it at low bits", "table 2",
        "KD none", "no-kd none", "KD against from scratch",
    )  # fmt: skip
    yield each(
        "distillation-alone", "Distillation beats the teacher's weights alone, without KD (not in the paper)",
        "own question", "KD none", "init none", "KD against the teacher's weights alone",
    )  # fmt: skip
    yield each(
        "own-schedule", "The student's own schedule beats the teacher's", "table 3", "KD a_s", "KD a_t",
        "A_S against A_T",
    )  # fmt: skip
    yield Claim(
        "ii-kd", "II-KD beats soft labels, each with its own schedule", "table 1", "study",
        tuple(
            _accuracy(f"{bits} bit: II-KD against soft labels", cell(bits, "ii-kd", "a_s"), cell(bits, "soft", "a_s"))
            for bits in study.BITS
        ),
    )  # fmt: skip
    yield each(
        "stage-beta", "Stage beta beats distillation alone", "table 2", "KD a_s", "KD none",
        "with A_S against without a schedule",
    )  # fmt: skip
    yield Claim(
        "stage-alpha", "Stage alpha helps full precision", "table 2", "study",
        (_accuracy("32 bit: A_T against no schedule", teacher, cell(FULL, "teacher", "none")),),
    )  # fmt: skip
    yield Claim(
        "four-bits", "4 bits reach full precision (within half a point)", "table 2", "study",
        tuple(
            _accuracy(
                f"{LOSSES[loss]}: 4 bit after stage beta against 32 bit without a schedule, half a point added",
                cell(4, loss, "a_s"),
                cell(FULL, "teacher", "none"),
                REACHES,
            )
            for loss in study.LOSSES
        ),
    )  # fmt: skip
    yield _figure3(
        "study",
        teacher,
        {
            f"{bits} bit, {LOSSES[loss]}": cell(bits, loss, "a_s")
            for bits in study.BITS
            for loss in study.LOSSES
        },
    )


CLAIMS: tuple[Claim, ...] = (*_paper_claims(), *_study_claims())
