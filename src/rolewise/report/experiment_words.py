"""How an experiment's numbers are written: percent, points, intervals, verdicts."""

from collections.abc import Sequence
from typing import NamedTuple

from rolewise.experiments.claims import Judged, Verdict
from rolewise.experiments.results import CellResult, Results
from rolewise.experiments.statistics import Difference, Summary, wilson_interval
from rolewise.experiments.tabulate import ArmRow

MISSING = "not run"
_MOST_NAMED = 6  # undecided claims that a summary still names
_DASH = "\N{EN DASH}"


class Commands(NamedTuple):
    """What repeats an experiment, each as (what it repeats, command).

    Args:
        whole: commands of everything that was asked for.
        pieces: commands of single searches and trainings.
    """

    whole: Sequence[tuple[str, str]] = ()
    pieces: Sequence[tuple[str, str]] = ()


def accuracy(cell: CellResult) -> str:
    """Mean and deviation in percent, such as "74.21 ± 0.30"; the first reason where there is none."""
    return reason(cell) if cell.summary is None else _mean(cell.summary)


def _mean(summary: Summary) -> str:
    text = f"{100 * summary.mean:.2f}"
    return text if summary.sd is None else f"{text} ± {100 * summary.sd:.2f}"


def reason(cell: CellResult) -> str:
    """Why a cell has no number, in a few words."""
    why = next(iter(cell.missing.values()), MISSING)
    return MISSING if why == "not run yet" else "failed"


def count(cell: CellResult) -> str:
    """How many of the seeds are there."""
    return f"n = {len(cell.outcomes)} of {len(cell.outcomes) + len(cell.missing)}"


def interval(cell: CellResult) -> str:
    """The 95 % interval over seeds, or for one seed that of the test images, as each page says above its tables."""
    summary = cell.summary
    if summary is None:
        return ""
    if summary.low is None or summary.high is None:
        outcome = next(iter(cell.outcomes.values()))
        low, high = wilson_interval(outcome.accuracy, outcome.n)
        return f"{100 * low:.2f}{_DASH}{100 * high:.2f}"
    return f"{100 * summary.low:.2f}{_DASH}{100 * summary.high:.2f}"


def paper(cell: CellResult) -> str:
    """The paper's number, or nothing."""
    return "" if cell.cell.paper is None else f"{cell.cell.paper:.2f}"


def points(difference: Difference | None, scale: int = 100) -> str:
    """A paired difference with its interval, in points or in another scale."""
    if difference is None:
        return MISSING
    text = f"{scale * difference.mean:+.2f}"
    if difference.low is None or difference.high is None:
        return f"{text} (one seed)"
    return f"{text} [{scale * difference.low:+.2f}, {scale * difference.high:+.2f}]"


def judged(one: Judged) -> str:
    """A comparison's outcome, in points or as it is."""
    return points(one.difference, 100 if one.comparison.points else 1)


def arm(row: ArmRow) -> tuple[str, ...]:
    """A row of the arms: name, seeds, accuracy, above no schedule, A_S above it and how probably, and its noise."""
    return (
        row.title,
        str(row.summary.n),
        _mean(row.summary),
        "" if row.word == "none" else points(row.to_none),
        "" if row.to_own is None else points(row.to_own),
        "" if row.to_own is None else f"{row.to_own.improvement:.2f}",
        noise(row.to_own),
    )


def noise(difference: Difference | None) -> str:
    """Whether a difference is inside the noise."""
    if difference is None:
        return ""
    return "inside the noise" if difference.inside_noise else "beyond the noise"


def sentences(results: Results, verdicts: tuple[Verdict, ...]) -> list[str]:
    """What an experiment found, in a few sentences."""
    filled = sum(bool(one.outcomes) for one in results.cells)
    whole = sum(bool(one.outcomes) and not one.missing for one in results.cells)
    total = len(results.cells)
    if whole == total:
        said = [f"All {total} cells have results of all their seeds ({results.title})."]
    else:
        said = [
            f"{filled} of {total} cells have results, {whole} of them of all their seeds ({results.title})."
        ]
    for state in ("verified", "contradicted", "undecided"):
        found = [verdict.claim.sentence for verdict in verdicts if verdict.state == state]
        if len(found) > _MOST_NAMED and state == "undecided":
            said.append(f"Undecided: {len(found)} of {len(verdicts)} claims.")
        elif found:
            said.append(f"{state.capitalize()}: {'; '.join(found)}.")
    if idle := sum(verdict.state == "not run" for verdict in verdicts):
        said.append(f"{idle} of {len(verdicts)} claims have no result yet.")
    if results.title != "full":
        said.append(
            "Smoke: tiny settings show that everything runs; no number here says anything about the paper."
            if results.title == "smoke"
            else f"All trainings and searches are shortened ({results.title}), so numbers are below the paper's."
        )
    return said


def hardware(results: Results) -> list[str]:
    """Distinct machines, versions and commits."""
    lines = []
    for one in results.environments:
        machine = one.get("hardware") or {}
        device = ", ".join(machine.get("gpus") or []) or str(machine.get("cpu", "unknown processor"))
        versions = one.get("versions") or {}
        commit = str(one.get("commit") or "no commit")
        lines.append(
            f"{device}, {machine.get('cores')} cores; rolewise {versions.get('rolewise')} at {commit}; "
            f"torch {versions.get('torch')}, Python {versions.get('python')}"
        )
    return lines
