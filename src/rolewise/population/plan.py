"""A search before it runs: everything checked and put together, nothing trained yet."""

import copy
import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy
import torch
from torch import nn

from rolewise._roles import STUDENT, check_role
from rolewise._version import __version__
from rolewise.augment import Schedule
from rolewise.data import Data, check_data
from rolewise.errors import InputError, InputTypeError, check_integer
from rolewise.objective import INITS, Init, Objective, checked
from rolewise.population.engine import Engine
from rolewise.population.log import SearchLog
from rolewise.population.loop import SearchLoop
from rolewise.population.methods import make_strategy
from rolewise.population.result import SearchResult, conclude
from rolewise.population.runner import SearchSpec, check_resettable
from rolewise.population.strategy import Strategy
from rolewise.pretrained import digest
from rolewise.progress import Progress
from rolewise.quant import quantization
from rolewise.runs import RunDirectory
from rolewise.settings import TrainOptions
from rolewise.settings.members import AVERAGES
from rolewise.settings.search import PLACE, SearchSettings
from rolewise.trainer import Trainer, TrainSettings, describe_objective, student_settings, teacher_settings

# The settings of a training in the first version. Later ones are part of a search's identity only where they are not at
# their defaults, so that a new setting changes no file and a search that was begun before it can be resumed. How a step
# is started (`record_steps`) is no part of it at all.
_FIRST = (
    "epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "decay_scope", "milestones", "lr_factor",
    "crop", "flip", "cutout", "eval_batch", "precision", "channels_last", "compile", "device", "threads",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A search, ready to be run or estimated.

    Args:
        spec: specification that all members share.
        settings: numbers of the search.
        strategy: the search algorithm.
        beginnings: schedule that each member follows until it is overwritten.
        identity: all that the result depends on, as a JSON file gives it back.
    """

    spec: SearchSpec
    settings: SearchSettings
    strategy: Strategy
    beginnings: list[Schedule]
    identity: dict[str, Any]

    def run(
        self,
        engine: Engine,
        *,
        run: RunDirectory | None = None,
        checkpoint_seconds: float = 30.0,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SearchResult:
        """Runs the search, from the newest checkpoint of `run` if there is one."""
        spec, settings, progress = self.spec, self.settings, progress or Progress()
        log = SearchLog(
            run, role=spec.role, identity=self.identity, seconds=checkpoint_seconds, progress=progress
        )
        loop = SearchLoop(
            self.strategy,
            self.beginnings,
            engine,
            log,
            seed=spec.seed,
            role=spec.role,
            progress=progress,
            should_stop=should_stop,
        )
        loop.resume()
        batch = spec.settings.batch_size
        images = len(spec.train) // batch * batch
        progress.start(
            log.stage,
            epochs=settings.epochs,
            images=images,
            members=settings.population,
            done=loop.state.completed,
        )
        result = conclude(
            loop.run(),
            self.beginnings,
            role=spec.role,
            provenance=self.provenance(),
            restarts=engine.restarts,
        )
        policies = len(result.schedule.segments)
        progress.finish(
            f"best: member {result.best}, validation accuracy {result.score:.4f}, "
            f"{policies} {'policy' if policies == 1 else 'policies'}"
        )
        return result

    def provenance(self) -> dict[str, Any]:
        """Origin of the schedule, as the schedule's file holds it: no times, no engine, no number of workers."""
        about = self.identity
        method = about["options"]["method"]
        return {
            "source": "search",
            **about["data"],
            **about["options"],
            "method": method if isinstance(method, str) else "given schedules",
            "objective": about["objective"]["class"],
            "init": about["init"],
            "seed": about["seed"],
            "run": _digest_json(about),
            "versions": {
                "rolewise": __version__,
                "torch": str(torch.__version__),
                "numpy": numpy.__version__,
                "python": platform.python_version(),
            },
        }


def make_plan(
    model: nn.Module,
    data: Data,
    settings: SearchSettings,
    *,
    objective: Objective | None = None,
    init: Init | None = None,
    seed: int = 0,
    role: str | None = None,
    training: TrainSettings | None = None,
    changes: TrainOptions | None = None,
    prepare: bool = False,
    images: tuple[int | None, int | None] = (None, None),
    schedules: Sequence[Schedule] | None = None,
    warm_start: Schedule | None = None,
    trainer: Callable[..., Trainer] = Trainer,
) -> Plan:
    """Checks and puts together a search.

    Args:
        settings: numbers of the search.
        training: numbers of each member's training; None takes the paper's for the role.
        changes: single numbers of the training in place of `training`'s.
        prepare: True calls `Objective.prepare` once all is checked.
        images: number of training and of validation images; None takes the data set's.
        schedules: one schedule for each member, for `method` "given".
        trainer: see `SearchSpec`.
        model, data, objective, init, seed, role, warm_start: arguments of `rolewise.search`.

    Raises:
        InputError: an argument that cannot be.
    """
    check_data(data)
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}.")
    objective = checked(objective)
    check_integer("seed", seed, 0)
    role = check_role(objective.role_of(model) if role is None else role)
    init = objective.init if init is None else init
    if init not in INITS:
        raise InputError(f'`init` must be "random" or "given", got {init!r}.')
    if init == "random":
        check_resettable(model)
    strategy = make_strategy(settings, schedules=schedules, warm_start=warm_start)
    beginnings = strategy.beginnings(seed, role)
    train, validation = data.reduced(*images)
    numbers = _member_settings(training, changes or {}, settings.epochs, role)
    if prepare:
        objective.prepare(data.train, seed=seed, device=numbers.device)
    own = copy.deepcopy(model).cpu()
    spec = SearchSpec(own, objective, train, validation, numbers, seed, role, init, trainer)
    return Plan(spec, settings, strategy, beginnings, _identity(spec, strategy, data))


def _member_settings(
    training: TrainSettings | None, changes: TrainOptions, epochs: int, role: str
) -> TrainSettings:
    if training is None:
        training = student_settings(epochs) if role == STUDENT else teacher_settings(epochs)
    if training.epochs != epochs:
        raise InputError(f"`epochs` is {epochs}, but `settings.epochs` is {training.epochs}.")
    numbers: dict[str, Any] = {**changes, "threads": 1}  # one thread and two give different bytes
    found = replace(training, **numbers).resolved()
    for name in AVERAGES:
        if getattr(found, name) is not None:
            raise InputError(
                f"`{name}` is {getattr(found, name)}, but members of a search are scored by their current weights, and "
                "average none: leave it out here, and give it to the final training."
            )
    return found


def _identity(spec: SearchSpec, strategy: Strategy, data: Data) -> dict[str, Any]:
    about = {
        "options": _options(strategy),
        "data": {
            "data": data.name,
            "fingerprint": data.fingerprint(),
            "train_images": len(spec.train),
            "validation_images": len(spec.validation),
        },
        "network": type(spec.model).__name__,
        "parameters": sum(parameter.numel() for parameter in spec.model.parameters()),
        "weights": digest(spec.model) if spec.init == "given" else None,  # else they are not used
        "quantization": quantization(spec.model),
        "objective": describe_objective(spec.objective),
        "settings": _training(spec.settings),
        "init": spec.init,
        "seed": spec.seed,
        "role": spec.role,
    }
    identity: dict[str, Any] = json.loads(json.dumps(about))
    return identity


def _training(settings: TrainSettings) -> dict[str, Any]:
    """The numbers of the training, without those that came later and are at their defaults."""
    default = TrainSettings(settings.epochs)
    values = {one.name: getattr(settings, one.name) for one in fields(TrainSettings)}
    return {
        name: value
        for name, value in values.items()
        if name in _FIRST or (name != "record_steps" and value != getattr(default, name))
    }


def _options(strategy: Strategy) -> dict[str, Any]:
    """The search's numbers as JSON, without the place; schedules by their digests."""
    settings, given = strategy.settings, strategy.schedules
    names = [one.name for one in fields(SearchSettings) if one.name not in (*PLACE, "method")]
    method = settings.method if given is None else [_schedule_digest(schedule) for schedule in given]
    warm = None if strategy.warm_start is None else _schedule_digest(strategy.warm_start)
    return {"method": method, **{name: getattr(settings, name) for name in names}, "warm_start": warm}


def _schedule_digest(schedule: Schedule) -> str:
    """A short digest of a schedule's policies."""
    return _digest_json([[epochs, policy.to_json()] for epochs, policy in schedule.segments])


def _digest_json(value: Any) -> str:
    """16 hexadecimal digits for a JSON value."""
    text = json.dumps(value, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
