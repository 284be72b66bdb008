"""What a `reproduce` directory holds: for each cell and seed the outcome, or why it is missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from rolewise.augment import Policy, Schedule
from rolewise.experiments.plan import Work, training
from rolewise.experiments.setups import Cell
from rolewise.experiments.site import Site
from rolewise.experiments.statistics import Summary, summarize
from rolewise.runs import layout, read_config, read_results

What = Literal["accuracy", "first_epoch", "changes"]


@dataclass(frozen=True)
class Outcome:
    """One training's test.

    Args:
        seed: base seed.
        accuracy: fraction of right answers after the last epoch.
        loss: mean cross-entropy.
        n: number of test images.
        accuracy_batch_statistics: the same with the test batches' own statistics, as the released code measured.
        run: name of the run directory below `runs/`.
        predictions: file of the test's logits and labels; None where the run kept none.
        cost: images, seconds and processor seconds of the training.
    """

    seed: int
    accuracy: float
    loss: float
    n: int
    accuracy_batch_statistics: float | None
    run: str
    predictions: Path | None
    cost: Mapping[str, Any]


@dataclass(frozen=True)
class ScheduleFacts:
    """A searched schedule in numbers, as figure 3 is read.

    Args:
        epochs: length.
        changes: number of epochs whose policy differs from the one before.
        first_epoch: the first epoch (from 0) in which any op may fire, as a fraction of the length; 1 if there is none.
    """

    epochs: int
    changes: int
    first_epoch: float


@dataclass(frozen=True)
class CellResult:
    """A cell with what was measured for it.

    Args:
        cell: the cell.
        outcomes: outcomes by seed.
        missing: seed -> why there is no outcome.
        schedules: seed -> file of the searched schedule that it is trained under.
    """

    cell: Cell
    outcomes: Mapping[int, Outcome]
    missing: Mapping[int, str]
    schedules: Mapping[int, Path]

    @property
    def summary(self) -> Summary | None:
        """Mean, deviation and interval over the seeds; None if there is no outcome."""
        values = [one.accuracy for one in self.outcomes.values()]
        return summarize(values) if values else None

    @cached_property
    def facts(self) -> Mapping[int, ScheduleFacts]:
        """Facts of the searched schedules by seed."""
        return {seed: schedule_facts(Schedule.load(path)) for seed, path in self.schedules.items()}

    def values(self, what: What) -> Mapping[int, float]:
        """One number per seed."""
        if what == "accuracy":
            return {seed: one.accuracy for seed, one in self.outcomes.items()}
        return {seed: float(getattr(one, what)) for seed, one in self.facts.items()}


@dataclass(frozen=True)
class Results:
    """All requested cells.

    Args:
        title: "smoke", "scale 0.1" or "full".
        cells: cells in the order of the tables.
        seeds: requested seeds.
        failures: name of a piece of work -> why it failed.
        searches: name of a search -> what it came to.
        environments: distinct machines and versions, as in a run's `config.json`.
    """

    title: str
    cells: tuple[CellResult, ...]
    seeds: tuple[int, ...]
    failures: Mapping[str, str]
    searches: Mapping[str, Mapping[str, Any]]
    environments: tuple[Mapping[str, Any], ...]

    def find(self, identifier: str) -> CellResult | None:
        """The cell of this id."""
        return next((one for one in self.cells if one.cell.id == identifier), None)

    def table(self, name: str) -> tuple[CellResult, ...]:
        """The cells of one table."""
        return tuple(one for one in self.cells if one.cell.table == name)


def schedule_facts(schedule: Schedule) -> ScheduleFacts:
    """How often a schedule changes, and when it starts to augment."""
    changes = sum(one != other for (_, one), (_, other) in pairwise(schedule.segments))
    epoch = 0
    for length, policy in schedule.segments:
        if not isinstance(policy, Policy) or any(probability for _, probability, _ in policy.settings):
            return ScheduleFacts(len(schedule), changes, epoch / len(schedule))
        epoch += length
    return ScheduleFacts(len(schedule), changes, 1.0)


def collect(site: Site, asked: Mapping[Cell, Sequence[int]], work: Iterable[Work]) -> Results:
    """Reads the directory; nothing in it changes.

    Args:
        site: the directory.
        asked: the seeds requested for each cell.
        work: the plan behind the cells.
    """
    work = tuple(work)
    failures = {one.name: why for one in work if not site.done(one) and (why := site.failure(one.name))}
    done = [one for one in work if site.done(one)]
    searches = {}
    for one in done:
        if one.kind == "search":
            record = site_results(site, one.name)
            searches[one.name] = {**record["searches"].get(one.role, {}), "cost": _cost(record, one)}
    environments: list[Mapping[str, Any]] = []
    for one in done:
        environment = read_config(site.run(one.name))["environment"]
        if environment not in environments:
            environments.append(environment)
    found = tuple(_cell(site, cell, seeds, failures) for cell, seeds in asked.items())
    every = sorted({seed for seeds in asked.values() for seed in seeds})
    return Results(site.options.title, found, tuple(every), failures, searches, tuple(environments))


def site_results(site: Site, name: str) -> dict[str, Any]:
    """`results.json` of a run.

    Raises:
        InputError: it is missing or no JSON.
    """
    return read_results(site.run(name) / layout.RESULTS)


def _cell(site: Site, cell: Cell, seeds: Sequence[int], failures: Mapping[str, str]) -> CellResult:
    outcomes, missing, schedules = {}, {}, {}
    for seed in seeds:
        work = training(cell.setup, seed)
        if site.done(work):
            outcomes[seed] = _outcome(site, work)
        else:
            blame = next((name for name in (work.name, *work.needs) if name in failures), None)
            missing[seed] = failures[blame] if blame else "not run yet"
        file = site.searched(work)
        if file is not None and work.arm.make is None and file.exists():
            schedules[seed] = file
    return CellResult(cell, outcomes, missing, schedules)


def _outcome(site: Site, work: Work) -> Outcome:
    record = site_results(site, work.name)
    row = next(row for row in record["rows"] if row["key"] == work.role)
    predictions = site.run(work.name) / layout.test_file(work.role)
    return Outcome(
        work.seed,
        row["accuracy"],
        row["loss"],
        row["n"],
        row.get("accuracy_batch_statistics"),
        work.name,
        predictions if predictions.exists() else None,
        _cost(record, work),
    )


def _cost(record: Mapping[str, Any], work: Work) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next((cost for cost in record["costs"] if cost["stage"] == work.stage), {})
    return {key: found.get(key) for key in ("images", "seconds", "cpu_seconds")}
