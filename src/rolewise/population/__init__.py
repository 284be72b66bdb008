"""The search for a schedule: population based augmentation, its controls, and the engines that train the
members.

Source: Ho et al., "Population Based Augmentation", ICML 2019; role-wise paper, sections 3 and 4.
`docs/searching.md` describes the differences from the published code.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from torch import nn

from rolewise.augment import Schedule
from rolewise.data import Data
from rolewise.kd.preparation import Preparation, watched
from rolewise.objective import Init, Objective
from rolewise.population.arguments import SearchArguments, plan_of
from rolewise.population.controls import randaugment_grid
from rolewise.population.estimation import Estimate, measure
from rolewise.population.lineage import Branch, Exploit, Lineage
from rolewise.population.methods import METHODS, make_strategy
from rolewise.population.output import run_search
from rolewise.population.pbt import Move, boundaries, exploit, explore
from rolewise.population.plan import Plan, make_plan
from rolewise.population.result import SearchResult, policy_statistics
from rolewise.population.state import Cost
from rolewise.population.strategy import Decision, Strategy
from rolewise.population.text_logs import read_global, write_logs
from rolewise.progress import Progress
from rolewise.runs import check_run
from rolewise.trainer import TrainSettings

__all__ = [
    "METHODS",
    "Branch",
    "Cost",
    "Decision",
    "Estimate",
    "Exploit",
    "Lineage",
    "Move",
    "Plan",
    "SearchResult",
    "Strategy",
    "boundaries",
    "estimate",
    "exploit",
    "explore",
    "make_plan",
    "make_strategy",
    "measure",
    "policy_statistics",
    "randaugment_grid",
    "read_global",
    "run_search",
    "search",
    "write_logs",
]


@overload
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
    details: Literal[False] = False,
    **options: Unpack[SearchArguments],
) -> Schedule: ...
@overload
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
    details: Literal[True],
    **options: Unpack[SearchArguments],
) -> SearchResult: ...
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
    method: str | Sequence[Schedule] = "pbt",
    warm_start: Schedule | None = None,
    workers: int | None = None,
    checkpoint_seconds: float = 30.0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    details: bool = False,
    **options: Any,
) -> Schedule | SearchResult:
    """Searches an augmentation schedule for `model` on `data`; neither is changed.

    `population` networks are trained side by side on a part of the training images. Every `interval` epochs
    they are scored on other training images (never on test images); the worst quarter continues from copies
    of the best quarter, under a mutated policy. The result is the schedule that the best network's history
    has seen. The same seed gives the same schedule on any number of workers and on every engine.

    Args:
        model: network to search for: a teacher, or a quantized student.
        data: data set, from `load_data`.
        objective: `CrossEntropy()` (the default) or `Distill(teacher, loss)`.
        population: number of members, 4 to 64.
        epochs: length of each member's training, and of the schedule.
        interval: epochs between two decisions.
        init: "random": each member begins with weights of its own, by the network's `reset(generator)` or its
            layers' `reset_parameters`; "given": each begins with the weights of `model`. None: as the
            objective says ("given" with `Distill`).
        seed: base seed of every random stream.
        out: folder for log, checkpoints and results; an interrupted search continues there with `resume=True`.
        resume: True continues the search in `out`.
        role: "teacher" or "student"; None takes it from objective and network.
        settings: numbers of the training; None takes the paper's for the role.
        train_images: number of images that members train on; None takes the data set's (4,000 of CIFAR).
        validation_images: number of images that members are scored on; None takes the data set's (36,000 of
            CIFAR).
        method: "pbt", a control (a name of `METHODS`), or one schedule for each member to
            compare.
        warm_start: schedule that members follow until they are overwritten; None is no augmentation.
        workers: number of processes of one thread each; None takes the number of cores, one for a GPU, or the
            number of the cluster's places.
        checkpoint_seconds: minimum time between two checkpoints.
        progress: listener for batches, scores and moves.
        should_stop: polled before every batch; return True to save and stop. Signals are handled
            automatically only with `out`.
        details: True returns a `SearchResult`, which holds more than the schedule.
        options: further numbers of the search (`rolewise.settings.search.SearchSettings`: `quantile`,
            `resample`, `early_stop`, `engine`, `ray_address`, `gpus_per_member`, `lanes`), and single numbers of the
            training (`TrainSettings`), such as `batch_size=64`.

    Returns:
        The schedule, or with `details` a `SearchResult`.

    Raises:
        InputError: an argument that cannot be, before any work is done.
        RunError: all members diverged, or workers died repeatedly.
        Interrupted: a signal came, and the run directory holds all members as they were.
    """
    arguments = {
        "objective": objective,
        "population": population,
        "epochs": epochs,
        "interval": interval,
        "init": init,
        "seed": seed,
        "role": role,
        "settings": settings,
        "train_images": train_images,
        "validation_images": validation_images,
        "method": method,
        "warm_start": warm_start,
        **options,
    }
    check_run(out, resume=resume)  # before a loss is prepared, which may take hours
    with watched(Preparation(should_stop=should_stop or bool)):
        plan = plan_of(search, model, data, arguments, prepare=True)
    found = run_search(
        plan,
        workers=workers,
        out=out,
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        progress=progress,
        should_stop=should_stop,
    )
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
    seed: int = 0,
    **options: Unpack[SearchArguments],
) -> Estimate:
    """The time that `search` with the same arguments would take here: some steps and an evaluation are
    measured, then multiplied.

    The search's own workers are started, and all of them are measured at once. A distillation loss that needs
    preparation (`Objective.prepare`) must be prepared already.

    Raises:
        InputError: as in `search`.
    """
    numbers = {"population": population, "epochs": epochs, "interval": interval}
    arguments = {**numbers, "objective": objective, "init": init, "seed": seed, **options}
    return measure(
        plan_of(search, model, data, arguments),
        workers=options.get("workers"),
        progress=options.get("progress"),
    )
