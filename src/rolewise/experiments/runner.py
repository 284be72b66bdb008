"""Works through a plan: claims a piece of work, does it in its own run directory, takes the next one."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolewise._machine import cores
from rolewise.errors import InputError, Interrupted, RunError
from rolewise.experiments.plan import Work
from rolewise.experiments.recipes import Options, with_settings
from rolewise.experiments.site import Site
from rolewise.progress import Progress
from rolewise.runs import RESUMABLE, StopFlag, layout
from rolewise.stages import open_pipeline, search_role, train_role

_WAIT = 2.0  # seconds until work that others hold is looked at again


@dataclass
class Summary:
    """What one process did.

    Args:
        done: names of complete work that it did itself.
        failed: name -> why.
        blocked: names of work whose teacher or search failed.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Manner:
    """How work is done here; nothing of it moves results.

    Args:
        processes: number of processes that work in parallel.
        keep_checkpoints: leave the checkpoints of complete work where they are.
        wait: seconds until work that others hold is looked at again.
    """

    processes: int = 1
    keep_checkpoints: bool = False
    wait: float = _WAIT

    @property
    def search_workers(self) -> int:
        """Worker processes of one search."""
        return max(1, cores() // self.processes)


def reproduce(
    site: Site, work: Sequence[Work], manner: Manner, *, progress: Progress | None = None
) -> Summary:
    """Does all work that is not complete yet, with `manner.processes` processes.

    Args:
        site: directory of the experiment.
        work: the plan, what is needed before what needs it.
        manner: way of working on this machine.
        progress: receives what happens; with several processes only this one's.

    Returns:
        What this process did.

    Raises:
        Interrupted: a signal came; the same call resumes.
    """
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_other, args=(site.path, site.options, tuple(work), manner, os.getpid()))
        for _ in range(manner.processes - 1)
    ]
    for process in others:
        process.start()
    try:
        with StopFlag() as flag:
            summary = work_through(site, work, manner, progress=progress, should_stop=flag)
    except BaseException:
        for process in others:
            process.terminate()  # a stop signal: each saves and ends
        raise
    finally:
        for process in others:
            process.join()
    return summary


def _other(path: Path, options: Options, work: tuple[Work, ...], manner: Manner, parent: int) -> None:
    """A further process; it stops when the first one is gone."""
    with StopFlag() as flag:

        def should_stop() -> bool:
            return flag.requested or os.getppid() != parent

        try:
            work_through(Site(path, options), work, manner, should_stop=should_stop)
        except Interrupted:
            raise SystemExit(RESUMABLE) from None


def work_through(
    site: Site,
    work: Sequence[Work],
    manner: Manner,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Summary:
    """Does what is ready and unclaimed, in the order of the plan, until all is complete or failed."""
    progress, should_stop = progress or Progress(), should_stop or (lambda: False)
    summary = Summary()
    while True:
        one, waiting = _next(site, work, summary)
        if one is None and not waiting:
            if not manner.keep_checkpoints:
                for done in filter(site.done, work):
                    site.clear(done)  # a kill may have come between the end of the work and this
            return summary
        claimed = one is not None and _attempt(site, one, manner, summary, progress, should_stop)
        if not claimed:
            _pause(manner.wait, should_stop)


def _next(site: Site, work: Sequence[Work], summary: Summary) -> tuple[Work | None, bool]:
    """The first piece of work that can be done now, and whether there will be more later."""
    summary.blocked = []
    waiting = False
    for one in work:
        if site.done(one):
            summary.failed.pop(one.name, None)  # another worker has done it meanwhile
            continue
        if one.name in summary.failed:
            continue
        if any(name in summary.failed or name in summary.blocked for name in one.needs):
            summary.blocked.append(one.name)
            continue
        # What is needed and not in the plan was done before.
        ready = all(site.done(other) for other in work if other.name in one.needs)
        if ready and site.claims.holder(one.name) is None:
            return one, True
        waiting = True
    return None, waiting


def _attempt(
    site: Site,
    one: Work,
    manner: Manner,
    summary: Summary,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> bool:
    """Does one piece of work unless another process was faster; a failure is kept and the others continue."""
    with site.claims.hold(one.name) as mine:
        if not mine:
            return False
        if site.done(one):
            return True
        try:
            execute(site, one, manner, progress=progress, should_stop=should_stop)
        except (InputError, RunError, OSError) as error:
            progress.note(f"{one.name}: {error}")
            summary.failed[one.name] = str(error)
            site.note_failure(one, error)
        else:
            summary.done.append(one.name)
            site.forget_failure(one)
            if not manner.keep_checkpoints:
                site.clear(one)
    return True


def execute(
    site: Site,
    work: Work,
    manner: Manner,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """One search or training, from where it was left.

    Raises:
        InputError: data or a file are missing.
        RunError: it diverged, or the disk is full.
        Interrupted: `should_stop` said so; its state is saved.
    """
    path = site.run(work.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if (path / layout.CONFIG).exists():
        # Its own settings: the paths in them are those of the process that began it.
        where: dict[str, Any] = {"config": {"machine.workers": manner.search_workers}, "resume": path}
    else:
        config = with_settings(site.config(work), {"machine.workers": manner.search_workers})
        where = {"config": config, "out": path}
    try:
        with open_pipeline(**where, only=work.stage, progress=progress, should_stop=should_stop) as pipeline:
            if work.kind == "search":
                search_role(pipeline, work.role)
            else:
                train_role(pipeline, work.role)
    except Interrupted as error:  # the way out that it names is that of a single run
        raise Interrupted(f"{work.name}: {error.__cause__ or error}. The same command resumes it") from error


def _pause(seconds: float, should_stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if should_stop():
            raise Interrupted("stopped while others worked")
        time.sleep(min(0.1, seconds))
