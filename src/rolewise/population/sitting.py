"""The run directory of one call of `search`: its own, somebody else's, or none."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from rolewise.augment import Schedule
from rolewise.errors import InputError
from rolewise.population.findings import SearchResult
from rolewise.population.lineage import Lineage
from rolewise.population.plan import Plan
from rolewise.population.standing import Cost
from rolewise.population.text_logs import write_logs
from rolewise.runs import RunDirectory, StopFlag

SCHEDULE_FILES = {"teacher": "A_T.json", "student": "A_S.json"}


class Sitting:
    """Opens what `search` was told to write into, and keeps the result there.

    A folder of its own (`out`) ends up with the schedule, and signals are heeded while the search runs; what
    somebody else has opened (`run`) gets the logs alone.

    Args:
        plan: the search.
        out: a folder, or None.
        resume: whether `out` is there already.
        run: an open run directory, or None.
        should_stop: what the caller asks of his own.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        out: str | Path | None,
        resume: bool,
        run: RunDirectory | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        if out is not None and run is not None:
            raise InputError("Give `out` or `run`, not both: each names a run directory.")
        if resume and out is None:
            raise InputError("`resume` needs `out`, the folder of the search that is to go on.")
        self._plan, self._out, self._resume = plan, out, resume
        self._role = plan.spec.role
        self._stage = f"search-{self._role}"
        self._flag: StopFlag | None = None
        self._asked = should_stop or (lambda: False)
        self.run = run

    def __enter__(self) -> Self:
        if self._out is not None:
            folder, config = Path(self._out), {"search": self._plan.identity}
            self.run = RunDirectory.open(folder) if self._resume else RunDirectory.create(folder, config)
            self._flag = StopFlag().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._flag is not None:
            self._flag.__exit__(*exception)
        if self._out is not None and self.run is not None:
            self.run.close()

    def should_stop(self) -> bool:
        """Whether a signal came, or the caller said so."""
        return self._asked() or (self._flag is not None and self._flag.requested)

    def found(self) -> SearchResult | None:
        """The result, where an earlier sitting came to the end."""
        if self._out is None or self.run is None or not self.run.done(self._stage):
            return None
        kept, options = self.run.stage_info(self._stage), self._plan.options
        if kept["identity"] != self._plan.identity:
            raise InputError(f"The search in {self.run.path} is complete, and was made with other settings.")
        lineage = Lineage.read(
            self.run.path,
            role=self._role,
            population=options.population,
            epochs=options.epochs,
            initial=options.initial,
        )
        return SearchResult(
            schedule=Schedule.load(self.run.file(SCHEDULE_FILES[self._role])),
            lineage=lineage,
            cost=Cost(**kept["cost"]),
            scores=_scores(kept["scores"]),
            history=[{**entry, "scores": list(_scores(entry["scores"]))} for entry in kept["history"]],
            **{name: kept[name] for name in ("best", "score", "diverged", "restarts")},
        )

    def keep(self, result: SearchResult) -> None:
        """Writes the logs for other tools and, into a folder of its own, the schedule."""
        if self.run is None:
            return
        write_logs(result.lineage, self.run.file(f"pbt-{self._role}"))
        if self._out is None:
            return
        result.schedule.save(self.run.file(SCHEDULE_FILES[self._role]))
        names = ("best", "score", "scores", "history", "diverged", "restarts")
        kept = {name: getattr(result, name) for name in names}
        kept |= {"cost": asdict(result.cost), "identity": self._plan.identity}
        self.run.mark_done(self._stage, kept)
        self.run.checkpoints(self._stage).clear()


def _scores(kept: list[float | None]) -> tuple[float, ...]:
    """JSON has no infinities: null is the score of a member that diverged."""
    return tuple(-math.inf if score is None else score for score in kept)
