"""What a run directory holds, complete or not; nothing else is asked."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from rolewise._roles import ROLES, SCHEDULES, STUDENT, TEACHER
from rolewise.augment import Schedule, find_schedule
from rolewise.config import Config
from rolewise.errors import InputError
from rolewise.report.lineage_data import LineageData, lineage_data
from rolewise.runs import layout, read_config, read_inputs, read_lineage, read_metrics, read_results
from rolewise.runs.records import ResultsFile
from rolewise.stages import Training
from rolewise.stages.trainings import wanted_baselines

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A run as read from its files.

    Attributes:
        path: the run directory.
        config: all settings.
        environment: versions, commit, hardware.
        metrics, lineage: the logs' lines.
        schedules: searched schedules by role.
        given: schedules by role that a file gave instead: the file's name, and the schedule at the training's length.
        rows: rows of the result table, in the order in which they were made.
        costs: per stage.
        searches: summary by role: best member, its score, population, ...
        faults: sentences about files that cannot be read.
    """

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    lineage: list[dict[str, Any]]
    schedules: dict[str, Schedule]
    given: dict[str, tuple[str, Schedule]]
    rows: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    searches: dict[str, dict[str, Any]]
    faults: list[str] = field(default_factory=list)

    def shown_schedules(self) -> dict[str, tuple[str, Schedule]]:
        """By role the name and the schedule that the run holds: the one that a file gave, or the searched one."""
        searched = {role: (SCHEDULES[role], schedule) for role, schedule in self.schedules.items()}
        return {role: found for role in ROLES if (found := self.given.get(role) or searched.get(role))}

    def row(self, key: str) -> dict[str, Any] | None:
        """The result of one training, if it is there."""
        return next((row for row in self.rows if row.get("key") == key), None)

    def lineage_data(self, role: str) -> LineageData | None:
        """A role's search, ready to be drawn; None if nothing of it is there."""
        found, section = self.searches.get(role, {}), self.section("search")
        try:
            return lineage_data(
                role,
                self.metrics,
                self.lineage,
                population=found.get("population") or section.get("population"),
                epochs=section.get("epochs"),
                best=found.get("best"),
            )
        except (InputError, KeyError, TypeError, ValueError) as error:
            self.faults.append(f"The {role}'s search cannot be drawn: {error}")
            return None

    def missing(self) -> list[str]:
        """What a complete run would hold and this one does not, and how far it is."""
        said = []
        for role in ROLES:
            section = self.section(role)
            elsewhere = any(section.get(key) is not None for key in ("schedule", "file", "weights"))
            if role not in self.schedules and not elsewhere:
                done = [
                    line
                    for line in self.metrics
                    if line.get("role") == role and line.get("member") is not None
                ]
                said.append(
                    _state(f"Search of the {role}'s schedule", done, self.section("search").get("epochs"))
                )
            if self.row(role) is None:
                said.append(self._training_state(f"Training of the {role}", role, role))
        if self.row(STUDENT) is not None:
            shown = {row["name"] for row in self.rows}
            for training, title in self._baselines():
                if self.row(training.key) is None and title not in shown:
                    shown.add(title)  # equal trainings are done once
                    said.append(self._training_state(f'Training "{title}"', training.key, training.role))
        return said

    def _baselines(self) -> list[tuple[Training, str]]:
        """The trainings to compare with that the settings ask for, and their titles."""
        try:
            config = Config.model_validate(self.config)
        except ValidationError:  # a run of the library alone, or of another version
            return []
        wanted = wanted_baselines(config, searched=TEACHER in self.schedules)
        return [(training, training.expected_title(config)) for training in wanted]

    def _training_state(self, what: str, key: str, role: str) -> str:
        stages = {layout.train_stage(key)} | ({layout.TRAIN} if key == role else set())
        done = [line for line in self.metrics if line.get("role") == role and line.get("stage") in stages]
        train = self.section(role).get("train")
        return _state(
            what, done, train.get("epochs") if isinstance(train, dict) else self.config.get("epochs")
        )

    def section(self, name: str) -> dict[str, Any]:
        """A group of settings; empty where the run has none of that name, or something else in its place."""
        section = self.config.get(name)
        return section if isinstance(section, dict) else {}


def load(path: str | os.PathLike[str]) -> Run:
    """Reads a run directory. A file of it that cannot be read is named in `faults`.

    Raises:
        InputError: it is no run directory.
    """
    folder = Path(path)
    record, faults = read_config(folder), []

    def attempt(read: Callable[[], T], default: T) -> T:
        try:
            return read()
        except (InputError, OSError) as error:
            faults.append(str(error))
            return default

    nothing: dict[str, Any] = {}
    results = attempt(lambda: _results(folder / layout.RESULTS), nothing)
    schedules = {}
    for role in SCHEDULES:
        file = folder / layout.schedule_file(role)
        schedule = attempt(lambda file=file: Schedule.load(file), None) if file.exists() else None  # type: ignore[misc]
        if schedule is not None:
            schedules[role] = schedule
    config = _settings(record.get("config"))
    return Run(
        path=folder,
        config=config,
        environment=record.get("environment") or {},
        metrics=attempt(lambda: read_metrics(folder), []),
        lineage=attempt(lambda: read_lineage(folder), []),
        schedules=schedules,
        given=attempt(lambda: _given(folder, config), {}),
        rows=results.get("rows", []),
        costs=results.get("costs", []),
        searches=results.get("searches", {}),
        faults=faults,
    )


def _given(folder: Path, config: Mapping[str, Any]) -> dict[str, tuple[str, Schedule]]:
    """The schedules that files gave, from the run's own copies."""
    found = {}
    for role in ROLES:
        record = read_inputs(folder / layout.INPUTS).get(f"{role}.schedule")
        section = config.get(role)
        train = section.get("train") if isinstance(section, dict) else None
        if record is not None and isinstance(train, dict):
            file = folder / record["name"]
            found[role] = (file.name, find_schedule(file, train.get("epochs")))
    return found


def _results(path: Path) -> dict[str, Any]:
    """What `results.json` holds, each row with all its keys: an earlier version wrote fewer."""
    return ResultsFile.model_validate(read_results(path)).model_dump()


def _settings(found: Any) -> dict[str, Any]:
    """The settings of a run, with today's defaults for those that it does not state; another program's as they are."""
    try:
        return Config.model_validate(found).model_dump(mode="json")
    except ValidationError:
        return found if isinstance(found, dict) else {}


def _state(what: str, done: Sequence[dict[str, Any]], epochs: Any) -> str:
    reached = max((line.get("epoch") or 0 for line in done), default=0)
    if not reached:
        return f"{what}: not begun."
    return f"{what}: at epoch {reached} of {epochs}." if epochs else f"{what}: at epoch {reached}."
