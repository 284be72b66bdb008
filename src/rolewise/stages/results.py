"""`results.json`: a row for each final training, what each search found, what each stage cost."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rolewise.runs import RunDirectory, layout, read_results
from rolewise.trainer import Result


class Results:
    """The results of one run directory; each entry is written as soon as it is known."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def read(self) -> dict[str, Any]:
        """All of it: `rows`, `searches`, `costs`.

        Raises:
            InputError: the file was changed or damaged.
        """
        return read_results(self.run.file(layout.RESULTS))

    def add_result(self, row: Mapping[str, Any], result: Result, *, log: bool = True) -> None:
        """The test of a final training: a row of the result table, and a line of the metrics.

        Args:
            row: description of the training, see `Training.describe`.
            result: its figures.
            log: True adds a line to the metrics; a repeated test already has one.
        """
        figures: dict[str, float | int | None] = {
            "accuracy": result.accuracy,
            "loss": result.loss,
            "accuracy_batch_statistics": result.batch_statistics,
        }
        if result.averaged_accuracy is not None:
            figures["accuracy_averaged"] = result.averaged_accuracy
        if result.best_accuracy is not None:
            figures |= {"accuracy_best_epoch": result.best_accuracy, "best_epoch": result.best_epoch}
        self.add_row({**row, **figures, "n": result.n, "precision": result.precision})
        if not log:
            return
        self.run.append_metrics(
            stage=layout.train_stage(row["key"]),
            role=row["role"],
            member=None,
            split="test",
            epoch=row["epochs"],
            **figures,
        )

    def add_row(self, row: Mapping[str, Any]) -> None:
        """A row of the result table; one of the same key is replaced."""
        self._put("rows", "key", row)

    def row(self, key: str) -> dict[str, Any] | None:
        """The row of a training; None if there is none."""
        rows: list[dict[str, Any]] = self.read()["rows"]
        return next((row for row in rows if row["key"] == key), None)

    def same(self, training: str, key: str) -> dict[str, Any] | None:
        """The row of a training that was done and is the same, to the byte; None if there is none.

        Args:
            training: digest of all in which the trainings of this run differ.
            key: key of the training that is about to begin.
        """
        rows: list[dict[str, Any]] = self.read()["rows"]
        others = (row for row in rows if row["key"] != key and row.get("same_as") is None)
        return next((row for row in others if row.get("training") == training), None)

    def add_search(self, role: str, summary: Mapping[str, Any]) -> None:
        """The result of the search of a role's schedule."""
        results = self.read()
        results["searches"][role] = dict(summary)
        self.run.write_json(layout.RESULTS, results)

    @contextmanager
    def cost(self, stage: str) -> Iterator[dict[str, Any]]:
        """Measures a stage; the clock goes into the results' costs and nowhere else.

        An interrupted stage is recorded as far as it came, and the next session adds to it; a session that is killed
        is lost. A caller that knows the cost over all sessions writes it into the yielded entry.
        """
        nothing: dict[str, Any] = {}
        before = next((one for one in self.read()["costs"] if one["stage"] == stage), nothing)
        cost: dict[str, Any] = {"stage": stage, "images": None, "finished": False}
        wall, cpu = time.monotonic(), _cpu_seconds()
        try:
            yield cost
            cost["finished"] = True
        finally:
            earlier = nothing if before.get("finished", True) else before
            cost.setdefault("seconds", earlier.get("seconds", 0.0) + time.monotonic() - wall)
            cost.setdefault("cpu_seconds", earlier.get("cpu_seconds", 0.0) + _cpu_seconds() - cpu)
            self._put("costs", "stage", cost)

    def _put(self, part: str, key: str, entry: Mapping[str, Any]) -> None:
        if self.run.read_only:
            return
        results = self.read()
        # What is made again keeps its place.
        known = {one[key]: one for one in results[part]}
        results[part] = list({**known, entry[key]: dict(entry)}.values())
        self.run.write_json(layout.RESULTS, results)


def _cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])
