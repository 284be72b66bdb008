"""Results in the paper's form: grids of rows and columns, the arms of each training, what it all cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rolewise.experiments.arms import ARMS
from rolewise.experiments.results import CellResult, Results
from rolewise.experiments.setups import Setup
from rolewise.experiments.statistics import Difference, Summary, paired_difference, summarize
from rolewise.experiments.tables import TITLES


@dataclass(frozen=True)
class Grid:
    """One table in the paper's form.

    Args:
        name: such as "table2".
        title: heading in words.
        columns: titles of the columns.
        rows: (title of the row, a cell for each column; None where the table has none).
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[CellResult | None, ...]], ...]


@dataclass(frozen=True)
class ArmRow:
    """One arm of a training.

    Args:
        word: name of the arm.
        title: what tables call it.
        summary: accuracies over the seeds.
        to_none: paired difference to the same training without a schedule; None without a common seed.
        to_own: paired difference of the student's own A_S to this arm; None likewise.
    """

    word: str
    title: str
    summary: Summary
    to_none: Difference | None
    to_own: Difference | None


@dataclass(frozen=True)
class ArmGroup:
    """One training under all its schedules.

    Args:
        title: heading in words.
        setup: the training, without a schedule.
        rows: arms that have results, in the order of `ARMS`.
    """

    title: str
    setup: Setup
    rows: tuple[ArmRow, ...]


def grids(results: Results) -> tuple[Grid, ...]:
    """The tables of which any cell was requested."""
    found = []
    for name, title in TITLES.items():
        cells = results.table(name)
        if not cells:
            continue
        columns = tuple(dict.fromkeys(one.cell.column for one in cells))
        by_place = {(one.cell.row, one.cell.column): one for one in cells}
        rows = tuple(
            (row, tuple(by_place.get((row, column)) for column in columns))
            for row in dict.fromkeys(one.cell.row for one in cells)
        )
        found.append(Grid(name, title, columns, rows))
    return tuple(found)


def arm_groups(results: Results) -> tuple[ArmGroup, ...]:
    """Trainings that have results under at least two schedules."""
    by_setup: dict[Setup, dict[str, CellResult]] = {}
    for one in results.cells:
        if one.outcomes:
            by_setup.setdefault(one.cell.setup.under("none"), {})[one.cell.setup.schedule] = one
    groups = []
    for setup, arms in by_setup.items():
        if len(arms) < 2:
            continue
        rows = tuple(
            ArmRow(
                word,
                ARMS[word].title,
                summarize(list(arms[word].values("accuracy").values())),
                None if word == "none" else _difference(arms, word, "none"),
                None if word == "a_s" else _difference(arms, "a_s", word),
            )
            for word in ARMS
            if word in arms
        )
        groups.append(ArmGroup(_title(setup), setup, rows))
    return tuple(groups)


def _difference(arms: Mapping[str, CellResult], first: str, second: str) -> Difference | None:
    if first not in arms or second not in arms:
        return None
    here, there = arms[first].values("accuracy"), arms[second].values("accuracy")
    seeds = sorted(here.keys() & there.keys())
    if not seeds:
        return None
    return paired_difference([here[seed] for seed in seeds], [there[seed] for seed in seeds])


def _title(setup: Setup) -> str:
    network = setup.network if setup.student is None else f"{setup.network} to {setup.student}"
    loss = "no KD" if setup.loss == "none" else setup.loss
    who = "teacher" if setup.role == "teacher" else f"student, {loss}"
    return f"{setup.data}, {network}, {setup.bits} bit, {who}"


def raw(results: Results) -> list[dict[str, Any]]:
    """One entry for each cell and seed: what JSON and CSV hold."""
    entries = []
    for one in results.cells:
        for seed in sorted(one.outcomes.keys() | one.missing.keys()):
            outcome, setup = one.outcomes.get(seed), one.cell.setup
            facts = one.facts.get(seed)
            entry: dict[str, Any] = {
                "cell": one.cell.id,
                "table": one.cell.table,
                "row": one.cell.row,
                "column": one.cell.column,
                "data": setup.data,
                "teacher": setup.network,
                "student": setup.student or setup.network,
                "bits": setup.bits,
                "loss": setup.loss,
                "schedule": setup.schedule,
                "scale": results.title,
                "seed": seed,
                "paper": one.cell.paper,
                "accuracy": outcome and outcome.accuracy,
                "test_loss": outcome and outcome.loss,
                "accuracy_batch_statistics": outcome and outcome.accuracy_batch_statistics,
                "test_images": outcome and outcome.n,
                "cpu_seconds": outcome and outcome.cost.get("cpu_seconds"),
                "run": outcome and outcome.run,
                "missing": one.missing.get(seed),
                "schedule_changes": facts and facts.changes,
                "schedule_first_epoch": facts and facts.first_epoch,
            }
            entries.append(entry)
    return entries


def costs(results: Results) -> list[dict[str, Any]]:
    """What searches and trainings took, by kind."""
    trained: dict[str, Mapping[str, Any]] = {}
    for one in results.cells:
        trained.update({outcome.run: outcome.cost for outcome in one.outcomes.values()})
    searched = {name: found["cost"] for name, found in results.searches.items()}
    return [
        {
            "kind": kind,
            "runs": len(found),
            "images": sum(cost.get("images") or 0 for cost in found.values()),
            "seconds": sum(cost.get("seconds") or 0.0 for cost in found.values()),
            "cpu_seconds": sum(cost.get("cpu_seconds") or 0.0 for cost in found.values()),
        }
        for kind, found in (("searches", searched), ("trainings", trained))
    ]
