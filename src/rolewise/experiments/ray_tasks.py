"""A plan as Ray tasks: each piece of work waits for those it needs, on any node that sees the directory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise._machine import cores
from rolewise.errors import InputError
from rolewise.experiments.plan import Work
from rolewise.experiments.recipes import Options
from rolewise.experiments.runner import Manner, Summary, work_through
from rolewise.experiments.site import Site
from rolewise.population.ray_cluster import connect
from rolewise.population.ray_engine import import_ray
from rolewise.progress import Progress

_RETRIES = 3  # of a task whose node or process died; it resumes where the run directory was left
BLOCKED = "what it needs failed"


def reproduce_on_ray(
    site: Site,
    work: Sequence[Work],
    manner: Manner,
    *,
    gpus_per_run: float = 0.0,
    address: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Does all work that is not complete yet as Ray tasks.

    The directory, the data and the package must be at the same place on every node.

    Args:
        site: directory of the experiment.
        work: the plan, what is needed before what needs it.
        manner: way of working on this machine.
        gpus_per_run: GPUs of each task; 0 gives it one CPU alone.
        address: address of a running cluster; None starts Ray on this machine.
        progress: receives a line for each piece of work.

    Raises:
        InputError: Ray cannot be reached or has no such resources.
        MissingExtraError: Ray is not installed.
    """
    progress = progress or Progress()
    ray = import_ray()
    own = not ray.is_initialized()
    if own:
        connect(ray, address, cores())
    try:
        _check_room(ray, gpus_per_run)
        return _run(ray, site, work, manner, gpus_per_run, progress)
    finally:
        if own:
            ray.shutdown()


def _run(
    ray: Any, site: Site, work: Sequence[Work], manner: Manner, gpus: float, progress: Progress
) -> Summary:
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)(_task)
    summary = Summary()
    tasks: dict[str, Any] = {}
    for one in work:
        if not site.done(one):
            needs = [tasks[name] for name in one.needs if name in tasks]
            tasks[one.name] = task.remote(site.path.absolute(), site.options, one, manner, *needs)
    for name, reference in tasks.items():
        try:
            error = ray.get(reference)
        except ray.exceptions.RayError as dead:
            error = f"its process died {_RETRIES + 1} times: {dead}"
        if error is None:
            summary.done.append(name)
        elif error == BLOCKED:
            summary.blocked.append(name)
        else:
            summary.failed[name] = error
        progress.note(f"{name}: {error or 'done'}")
    return summary


def _task(path: Path, options: Options, work: Work, manner: Manner, *needs: str | None) -> str | None:
    """Runs on some node: one piece of work; gives why it failed, or None."""
    if any(need is not None for need in needs):
        return BLOCKED
    return work_through(Site(path, options), [work], manner).failed.get(work.name)


def _check_room(ray: Any, gpus: float) -> None:
    found = float(ray.cluster_resources().get("GPU", 0))
    if gpus > found:
        raise InputError(f"`gpus_per_run` is {gpus:g}, but the Ray cluster has {found:g} GPUs.")
