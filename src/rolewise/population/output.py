"""Runs a search in the run directory of one `search()` call: its own, its caller's, or none."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rolewise.augment import Schedule
from rolewise.errors import InputError
from rolewise.population.engine import make_engine
from rolewise.population.lineage import Lineage
from rolewise.population.plan import Plan
from rolewise.population.result import SearchResult
from rolewise.population.state import Cost, common_vectors
from rolewise.population.text_logs import write_logs
from rolewise.progress import Progress
from rolewise.runs import RunDirectory, layout, open_run
from rolewise.trainer import check_identity

_KEPT = ("best", "score", "scores", "history", "diverged", "restarts")


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

    A folder of its own (`out`) ends up with the schedule, and signals are handled while the search runs; a
    directory that the caller has opened (`run`) gets the logs alone.
    """
    if out is not None and run is not None:
        raise InputError("Give `out` or `run`, not both: each names a run directory.")
    config = {"search": plan.identity}
    with open_run(out, config, resume=resume, should_stop=should_stop) as opened:
        own = opened.directory
        if own is not None and (found := _complete(plan, own)) is not None:
            return found
        directory = run if own is None else own
        with make_engine(plan.spec, plan.settings, workers=workers, progress=progress) as engine:
            found = plan.run(
                engine,
                run=directory,
                checkpoint_seconds=checkpoint_seconds,
                progress=progress,
                should_stop=opened.should_stop,
            )
        if directory is not None:
            write_logs(found.lineage, directory.file(layout.search_logs(plan.spec.role)))
        if own is not None:
            _keep(plan, own, found)
    return found


def _complete(plan: Plan, run: RunDirectory) -> SearchResult | None:
    """The result, where an earlier session came to the end."""
    role, settings = plan.spec.role, plan.settings
    stage = layout.search_stage(role)
    if not run.done(stage):
        return None
    kept = run.stage_info(stage)
    check_identity(kept["identity"], plan.identity, run.path, what="search")
    run.checkpoints(stage).clear()  # a kill may have come just before `_keep` did
    lineage = Lineage.read(
        run.path,
        role=role,
        population=settings.population,
        epochs=settings.epochs,
        initial=common_vectors(plan.strategy, plan.beginnings),
    )
    return SearchResult(
        schedule=Schedule.load(run.file(layout.schedule_file(role))),
        lineage=lineage,
        cost=Cost(**kept["cost"]),
        scores=tuple(kept["scores"]),
        **{name: kept[name] for name in _KEPT if name != "scores"},
    )


def _keep(plan: Plan, run: RunDirectory, result: SearchResult) -> None:
    """Writes the schedule, and what `_complete` reads."""
    stage = layout.search_stage(plan.spec.role)
    result.schedule.save(run.file(layout.schedule_file(plan.spec.role)))
    kept = {name: getattr(result, name) for name in _KEPT}
    run.mark_done(stage, {**kept, "cost": asdict(result.cost), "identity": plan.identity})
    run.checkpoints(stage).clear()
