"""Opens and closes the run directory of one `search()` call, and runs the search in it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from rolewise.augment import Schedule
from rolewise.errors import InputError
from rolewise.population.engine import make_engine
from rolewise.population.lineage import Lineage
from rolewise.population.plan import Plan
from rolewise.population.result import SearchResult
from rolewise.population.state import Cost, common_vectors
from rolewise.population.text_logs import write_logs
from rolewise.progress import Progress
from rolewise.runs import RunDirectory, StopFlag

SCHEDULE_FILES = {"teacher": "A_T.json", "student": "A_S.json"}


def run_search(
    plan: Plan,
    *,
    workers: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    run: RunDirectory | None = None,
    checkpoint_seconds: float = 30.0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> SearchResult:
    """Runs a search on the engine that its settings name; see `rolewise.search` for arguments and errors.

    Args:
        run: open run directory to log into, instead of `out`; whoever opened it keeps the schedule.
    """
    with SearchOutput(plan, out=out, resume=resume, run=run, should_stop=should_stop) as output:
        if (found := output.found()) is None:
            with make_engine(plan.spec, plan.settings, workers=workers, progress=progress) as engine:
                found = plan.run(
                    engine,
                    run=output.run,
                    checkpoint_seconds=checkpoint_seconds,
                    progress=progress,
                    should_stop=output.should_stop,
                )
            output.keep(found)
    return found


class SearchOutput:
    """The run directory of a search: its own, its caller's, or none.

    A folder of its own (`out`) ends up with the schedule, and signals are handled while the search runs; a
    directory that the caller has opened (`run`) gets the logs alone.

    Args:
        plan: the search.
        out: folder, or None.
        resume: whether `out` exists already.
        run: open run directory, or None.
        should_stop: the caller's own wish to stop.
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
            raise InputError("`resume` needs `out`, the folder of the search to be resumed.")
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
        """Whether a signal came, or the caller wants to stop."""
        return self._asked() or (self._flag is not None and self._flag.requested)

    def found(self) -> SearchResult | None:
        """The result, where an earlier session came to the end."""
        if self._out is None or self.run is None or not self.run.done(self._stage):
            return None
        kept, settings = self.run.stage_info(self._stage), self._plan.settings
        if kept["identity"] != self._plan.identity:
            raise InputError(f"The search in {self.run.path} is complete, and was made with other settings.")
        lineage = Lineage.read(
            self.run.path,
            role=self._role,
            population=settings.population,
            epochs=settings.epochs,
            initial=common_vectors(self._plan.strategy, self._plan.beginnings),
        )
        return SearchResult(
            schedule=Schedule.load(self.run.file(SCHEDULE_FILES[self._role])),
            lineage=lineage,
            cost=Cost(**kept["cost"]),
            scores=tuple(kept["scores"]),
            **{name: kept[name] for name in ("best", "score", "history", "diverged", "restarts")},
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
