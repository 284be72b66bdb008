"""The search for a schedule: population based augmentation, its controls, and the engines that train the
members.

Source: Ho et al., "Population Based Augmentation", ICML 2019; role-wise paper, sections 3 and 4.
`docs/search.md` tells how it differs from the published code.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, overload

from torch import nn

from rolewise.augment import Schedule
from rolewise.data import Data
from rolewise.objective import Objective
from rolewise.population.controls import METHODS, randaugment_grid
from rolewise.population.findings import SearchResult, policy_statistics
from rolewise.population.forecast import Estimate, measure
from rolewise.population.lineage import Branch, Exploit, Lineage
from rolewise.population.member import Init
from rolewise.population.options import Method, SearchOptions
from rolewise.population.pbt import Move, boundaries, exploit, explore
from rolewise.population.plan import Machine, make_plan
from rolewise.population.sitting import Sitting
from rolewise.population.standing import Cost
from rolewise.population.text_logs import read_global, write_logs
from rolewise.progress import Progress
from rolewise.runs import RunDirectory
from rolewise.trainer import TrainSettings

__all__ = [
    "METHODS",
    "Branch",
    "Cost",
    "Estimate",
    "Exploit",
    "Lineage",
    "Move",
    "SearchOptions",
    "SearchResult",
    "boundaries",
    "estimate",
    "exploit",
    "explore",
    "policy_statistics",
    "randaugment_grid",
    "read_global",
    "search",
    "write_logs",
]


@overload
def search(
    model: nn.Module, data: Data, *, details: Literal[False] = False, **arguments: Any
) -> Schedule: ...
@overload
def search(model: nn.Module, data: Data, *, details: Literal[True], **arguments: Any) -> SearchResult: ...
def search(
    model: nn.Module,
    data: Data,
    *,
    objective: Objective | None = None,
    population: int = 16,
    epochs: int = 200,
    interval: int = 3,
    init: Init | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    role: str | None = None,
    settings: TrainSettings | None = None,
    train_images: int | None = None,
    validation_images: int | None = None,
    quantile: float = 0.25,
    resample: float = 0.2,
    early_stop: float | bool | None = None,
    method: Method = "pbt",
    warm_start: Schedule | None = None,
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    gpus_per_member: float = 0.0,
    run: RunDirectory | None = None,
    checkpoint_seconds: float = 30.0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    details: bool = False,
    **changes: Any,
) -> Schedule | SearchResult:
    """Searches an augmentation schedule for `model` on `data`; neither is changed.

    `population` networks are trained side by side on a part of the training images. Every `interval` epochs
    they are scored on other training images (never on test images); the worst quarter goes on from copies of
    the best quarter, under a mutated policy. The result is the schedule that the best network's history has
    seen. The same seed gives the same schedule on any number of workers and on either engine.

    Args:
        model: the network to search for: a teacher, or a quantized student.
        data: from `load_data`.
        objective: `CrossEntropy()` (the default) or `Distill(teacher, loss)`.
        population: number of members, 4 to 64.
        epochs: length of each member's training, and of the schedule.
        interval: epochs from one decision to the next.
        init: "random": each member begins with weights of its own, by the network's `reset(generator)` or its
            layers' `reset_parameters`; "given": each begins with the weights of `model`. None: "given" with
            `Distill`.
        seed: of everything.
        out: a folder for log, checkpoints and results; there an interrupted search goes on with
            `resume=True`.
        resume: see `out`.
        role: "teacher" or "student"; None tells it from objective and network.
        settings: numbers of the training; None takes the paper's for the role.
        train_images: what members train on; None takes the data set's (4,000 of CIFAR).
        validation_images: what they are scored on; None takes the data set's (36,000 of CIFAR).
        quantile, resample, early_stop, method, warm_start: see `SearchOptions`.
        workers: processes of one thread each (a GPU: one); None takes the number of cores, or of the
            cluster's places.
        engine: "local" or "ray".
        ray_address: of a running Ray cluster; None starts Ray on this machine.
        gpus_per_member: share of a GPU that Ray gives each member.
        run: an open run directory instead of `out`; then who opened it keeps the schedule.
        checkpoint_seconds: at least so much time lies between two checkpoints.
        progress: is told of batches, scores and moves.
        should_stop: asked all the time; signals are heeded by themselves only where `out` is given.
        details: return a `SearchResult`, which holds more than the schedule.
        changes: single fields of `TrainSettings`, such as `batch_size=64`.

    Returns:
        The schedule, or with `details` all that is known about it.

    Raises:
        InputError: anything that cannot be, before any work is done.
        RunError: all members diverged, or workers died again and again.
        Interrupted: a signal came, and the run directory holds all members as they were.
    """
    options = SearchOptions(population, epochs, interval, quantile, resample, early_stop, method, warm_start)
    if objective is not None and isinstance(objective, Objective):
        device = str(changes.get("device", "cpu" if settings is None else settings.device))
        objective.prepare(data.train, seed=seed, device=TrainSettings(1, device=device).resolved().device)
    plan = make_plan(
        model,
        data,
        options,
        objective=objective,
        init=init,
        seed=seed,
        role=role,
        settings=settings,
        changes=changes,
        images=(train_images, validation_images),
    )
    progress = progress or Progress()
    machine = Machine(engine, workers, ray_address, gpus_per_member)
    with Sitting(plan, out=out, resume=resume, run=run, should_stop=should_stop) as sitting:
        if (found := sitting.found()) is None:
            with machine.start(plan.spec, population, progress) as workforce:
                found = plan.run(
                    workforce,
                    run=sitting.run,
                    checkpoint_seconds=checkpoint_seconds,
                    progress=progress,
                    should_stop=sitting.should_stop,
                )
            sitting.keep(found)
    return found if details else found.schedule


def estimate(
    model: nn.Module,
    data: Data,
    *,
    objective: Objective | None = None,
    population: int = 16,
    epochs: int = 200,
    interval: int = 3,
    init: Init | None = None,
    settings: TrainSettings | None = None,
    train_images: int | None = None,
    validation_images: int | None = None,
    method: Method = "pbt",
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    gpus_per_member: float = 0.0,
    progress: Progress | None = None,
    **changes: Any,
) -> Estimate:
    """How long `search` with the same arguments will take here: some steps and an evaluation are timed, then
    multiplied.

    The search's own workers are started, and all of them are timed at once. A distillation loss that must be
    prepared first (`Objective.prepare`) is to be so already.

    Raises:
        InputError: as of `search`.
    """
    options = SearchOptions(population, epochs, interval, method=method)
    plan = make_plan(
        model,
        data,
        options,
        objective=objective,
        init=init,
        settings=settings,
        changes=changes,
        images=(train_images, validation_images),
    )
    machine = Machine(engine, workers, ray_address, gpus_per_member)
    return measure(plan, machine, progress or Progress())
