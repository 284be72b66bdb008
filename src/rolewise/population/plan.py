"""A search that is about to be made: everything checked and put together, nothing trained yet."""

import copy
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy
import torch
from torch import nn

import rolewise
from rolewise.augment import Schedule
from rolewise.data import Data, check_data
from rolewise.errors import InputError, InputTypeError, check_integer, unknown
from rolewise.objective import CrossEntropy, Distill, MutualLearning, Objective
from rolewise.population.controls import beginnings
from rolewise.population.driver import Driver
from rolewise.population.engine import Engine, make_engine
from rolewise.population.findings import SearchResult, conclude
from rolewise.population.initial import check_resettable
from rolewise.population.journal import Journal
from rolewise.population.member import Init, SearchSpec
from rolewise.population.options import SearchOptions, digest_json
from rolewise.pretrained import digest
from rolewise.progress import Progress
from rolewise.quant import quantization
from rolewise.runs import RunDirectory
from rolewise.trainer import Trainer, TrainSettings, student_settings, teacher_settings

ROLES = ("teacher", "student")


@dataclass(frozen=True)
class Machine:
    """Where a search runs; none of it shows in the result.

    Args:
        engine: "local" or "ray".
        workers: see `rolewise.population.engine.make_engine`.
        ray_address: likewise.
        gpus_per_member: likewise.
    """

    engine: str = "local"
    workers: int | None = None
    ray_address: str | None = None
    gpus_per_member: float = 0.0

    def start(self, spec: SearchSpec, members: int, progress: Progress) -> Engine:
        """The engine."""
        return make_engine(
            self.engine,
            spec,
            workers=self.workers,
            members=members,
            ray_address=self.ray_address,
            gpus_per_member=self.gpus_per_member,
            progress=progress,
        )


@dataclass(frozen=True)
class Plan:
    """A search, ready to be run or estimated.

    Args:
        spec: what its members have in common.
        options: its numbers.
        beginnings: the schedule that each member follows until it is overwritten.
        identity: all that the result depends on, as a JSON file gives it back.
    """

    spec: SearchSpec
    options: SearchOptions
    beginnings: list[Schedule]
    identity: dict[str, Any]

    def run(
        self,
        engine: Engine,
        *,
        run: RunDirectory | None,
        checkpoint_seconds: float,
        progress: Progress,
        should_stop: Callable[[], bool],
    ) -> SearchResult:
        """Makes the search, from the newest checkpoint of `run` on if there is one."""
        spec, options = self.spec, self.options
        journal = Journal(
            run, role=spec.role, identity=self.identity, seconds=checkpoint_seconds, progress=progress
        )
        driver = Driver(
            options,
            self.beginnings,
            engine,
            journal,
            seed=spec.seed,
            role=spec.role,
            progress=progress,
            should_stop=should_stop,
        )
        driver.resume()
        batch = spec.settings.batch_size
        images = len(spec.train) // batch * batch
        done = driver.standing.completed
        progress.start(
            journal.stage, epochs=options.epochs, images=images, members=options.population, done=done
        )
        standing = driver.run()
        result = conclude(
            standing,
            self.beginnings,
            role=spec.role,
            provenance=self.provenance(),
            restarts=engine.restarts,
        )
        progress.finish(
            f"best: member {result.best}, validation accuracy {result.score:.4f}, "
            f"{len(result.schedule.segments)} policies"
        )
        return result

    def provenance(self) -> dict[str, Any]:
        """What a schedule says of its origin: no times, nothing of the machine's engine or workers."""
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
            "run": digest_json(about),
            "versions": {
                "rolewise": rolewise.__version__,
                "torch": str(torch.__version__),
                "numpy": numpy.__version__,
                "python": platform.python_version(),
            },
        }


def make_plan(
    model: nn.Module,
    data: Data,
    options: SearchOptions,
    *,
    objective: Objective | None = None,
    init: Init | None = None,
    seed: int = 0,
    role: str | None = None,
    settings: TrainSettings | None = None,
    changes: Mapping[str, Any] | None = None,
    images: tuple[int | None, int | None] = (None, None),
    trainer: Callable[..., Trainer] = Trainer,
) -> Plan:
    """Checks and puts together; see `rolewise.search` for the arguments.

    Raises:
        InputError: anything that cannot be.
    """
    check_data(data)
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}.")
    objective = objective or CrossEntropy()
    if not isinstance(objective, Objective):
        raise InputTypeError(
            f"`objective` must be an objective such as CrossEntropy() or Distill(...), got {type(objective).__name__}."
        )
    check_integer("seed", seed, 0)
    distills = isinstance(objective, Distill)
    if role is None:
        low = distills or isinstance(objective, MutualLearning) or quantization(model) is not None
        role = "student" if low else "teacher"
    if role not in ROLES:
        raise InputError(unknown("role", role, ROLES))
    if init is None:
        init = "given" if distills else "random"
    if init not in ("random", "given"):
        raise InputError(f'`init` must be "random" or "given", got {init!r}.')
    if init == "random":
        check_resettable(model)
    train, validation = data.reduced(*images)
    own = copy.deepcopy(model).cpu()
    numbers = _settings(settings, changes or {}, options.epochs, role)
    spec = SearchSpec(own, objective, train, validation, numbers, seed, role, init, trainer)
    return Plan(spec, options, beginnings(options, seed=seed, role=role), _identity(spec, options, data))


def _settings(
    settings: TrainSettings | None, changes: Mapping[str, Any], epochs: int, role: str
) -> TrainSettings:
    known = [one.name for one in fields(TrainSettings)]
    for name in changes:
        if name not in known:
            raise InputError(unknown("argument of a search", name, known))
    if settings is None:
        settings = student_settings(epochs) if role == "student" else teacher_settings(epochs)
    settings = replace(settings, **{**changes, "threads": 1})  # one thread and two give different bytes
    if settings.epochs != epochs:
        raise InputError(f"`epochs` is {epochs}, but `settings.epochs` is {settings.epochs}.")
    return settings.resolved()


def _identity(spec: SearchSpec, options: SearchOptions, data: Data) -> dict[str, Any]:
    about = {
        "options": options.to_json(),
        "data": {
            "data": data.name,
            "fingerprint": data.fingerprint(),
            "train_images": len(spec.train),
            "validation_images": len(spec.validation),
        },
        "network": type(spec.model).__name__,
        "parameters": sum(parameter.numel() for parameter in spec.model.parameters()),
        "weights": digest(spec.model) if spec.init == "given" else None,  # else they are not looked at
        "quantization": quantization(spec.model),
        "objective": _describe(spec.objective),
        "settings": {one.name: getattr(spec.settings, one.name) for one in fields(TrainSettings)},
        "init": spec.init,
        "seed": spec.seed,
        "role": spec.role,
    }
    identity: dict[str, Any] = json.loads(json.dumps(about))
    return identity


def _describe(objective: Objective) -> dict[str, Any]:
    """An objective as JSON: its numbers, and digests of its networks."""
    about: dict[str, Any] = {"class": type(objective).__name__}
    for name, value in vars(objective).items():
        if name.startswith("_"):
            continue
        if isinstance(value, nn.Module):
            about[name] = {"class": type(value).__name__, "weights": digest(value)}
        elif value is None or isinstance(value, bool | int | float | str):
            about[name] = value
    return about
