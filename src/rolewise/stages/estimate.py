"""What a run would take on this machine: time, measured on a few steps and then computed, and room on the disk."""

import copy
import time
from dataclasses import replace
from functools import cached_property

import torch
from torch import nn

from rolewise._roles import ROLES, STUDENT, TEACHER
from rolewise.config import Config
from rolewise.data import Data
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.population import Estimate, make_plan, measure
from rolewise.runs import layout
from rolewise.stages import build
from rolewise.stages.check import check
from rolewise.stages.trainings import TRAININGS, searches, teacher_given, wanted_baselines
from rolewise.trainer import Trainer, torch_threads
from rolewise.trainer.recorded import record

_FLOAT = 4  # bytes
_COPIES = 2  # of each parameter: itself and its momentum
_KEPT = 3  # checkpoints of a stage: the last two, and the one that is being written

_TIMED_STEPS = 8
_WARM, _TIMED = 256, 1024  # images on which the preparation of a loss is tried, and timed


def estimate(config: Config, only: str | None = None) -> str:
    """A text of one line a stage, and the sum.

    Nothing is written and no test image is read. The teacher is untrained here, and a loss that trains parts of its own
    on the teacher is given a short epoch of it; neither changes what a step costs.

    Args:
        config: settings of a run; they are checked first, as those of a new run are.
        only: "teacher" or "student": that role's search alone.

    Raises:
        InputError: settings that cannot be.
    """
    rehearsal = _Rehearsal(
        build.resolve(config), check(config, only=None if only is None else layout.search_stage(only))
    )
    seconds: list[float] = []
    lines: list[str] = []

    def tell(what: str, text: str, takes: float) -> None:
        lines.append(f"{what}: {text}")
        seconds.append(takes)

    roles = [only] if only else ROLES
    if STUDENT in roles and rehearsal.preparing:
        tell("preparing the loss on the teacher", _about(rehearsal.preparing), rehearsal.preparing)
    for role in roles:
        if only or searches(config, role):
            found = rehearsal.search(role)
            tell(f"search of the {role}'s schedule", str(found), found.seconds)
    if only is None:
        stages = [] if teacher_given(config) else [TRAININGS[TEACHER]]
        for training in (*stages, TRAININGS[STUDENT], *wanted_baselines(config)):
            takes = rehearsal.training(training.role, kd=training.kd)
            tell(training.foretold(config), _about(takes), takes)
        lines.append(f"together {_about(sum(seconds))}")
    return "\n".join(lines)


def bytes_needed(config: Config, classes: int, image: build.Image) -> int:
    """About what the checkpoints and networks of a run take at most, in bytes.

    A search keeps the state of every member; the checkpoints of a stage that is done stay where they are.
    """
    networks = build.new_teacher(config, classes, image), build.new_student(config, classes, image, None)[0]
    parameters = sum(parameter.numel() for network in networks for parameter in network.parameters())
    return _FLOAT * parameters * (config.search.population + len(networks)) * _COPIES * _KEPT


class _Rehearsal:
    """The parts of a run, untrained, on which steps are timed."""

    def __init__(self, config: Config, data: Data) -> None:
        self.config, self._data = config, data
        self._trainings: dict[tuple[str, bool], float] = {}

    @cached_property
    def _distillation(self) -> tuple[Objective, float]:
        """The student's objective, prepared in a short epoch, and the seconds that the whole preparation takes."""
        config, images = self.config, self._data.train
        objective = build.new_objective(
            config, build.new_teacher(config, len(self._data.classes), build.image_form(self._data)).eval()
        )
        if not isinstance(objective, Distill) or objective.loss.prepared:
            return objective, 0.0
        objective.prepare_epochs = 1
        device = build.train_settings(config, STUDENT, searching=False).device
        warm, timed = (images.subset(torch.arange(min(n, len(images)))) for n in (_WARM, _TIMED))
        copy.deepcopy(objective).prepare(warm, seed=config.seed, device=device)  # kernels are loaded
        begun = time.monotonic()
        objective.prepare(timed, seed=config.seed, device=device)
        took = time.monotonic() - begun
        return objective, took * config.kd.prepare_epochs * len(images) / len(timed)

    @property
    def preparing(self) -> float:
        """Seconds in which the distillation loss trains its own parts on the teacher."""
        return self._distillation[1]

    def _parts(self, role: str, data: Data) -> tuple[nn.Module, Objective]:
        classes, image = len(data.classes), build.image_form(data)
        if role == TEACHER:
            return build.new_teacher(self.config, classes, image), CrossEntropy()
        return build.new_student(self.config, classes, image, None)[0], self._distillation[0]

    def search(self, role: str) -> Estimate:
        """What the search of a role's schedule takes."""
        config = self.config
        data = build.load_searched(config, role, self._data)
        model, objective = self._parts(role, data)
        plan = make_plan(
            model,
            data,
            config.search,
            objective=objective,
            role=role,
            training=build.train_settings(config, role, searching=True),
            images=(config.data.search_train, config.data.search_validation),
        )
        return measure(plan, workers=config.machine.workers)

    def training(self, role: str, *, kd: bool) -> float:
        """Seconds of a final training, from the time of some steps."""
        if (role, kd) not in self._trainings:
            settings = build.train_settings(self.config, role, searching=False)
            model, objective = self._parts(role, self._data)
            with torch_threads(settings.threads):
                trainer = Trainer(
                    model,
                    objective if kd else CrossEntropy(),
                    self._data.train,
                    replace(settings, epochs=1),
                    seed=0,
                )
                step = _seconds_of_a_step(trainer)
            self._trainings[role, kd] = step * settings.epochs * trainer.steps
        return self._trainings[role, kd]


def _seconds_of_a_step(trainer: Trainer) -> float:
    record(trainer)  # as the training will, on a GPU
    trainer.begin_epoch()
    take = trainer.train_step if trainer.recorded is None else trainer.recorded
    begun, steps = 0.0, -1  # the first step compiles and allocates, and is not counted
    for batch in trainer.feeder.batches(0, None):
        take(batch)
        steps += 1
        if steps == 0:
            trainer.placement.wait()
            begun = time.monotonic()
        if steps == _TIMED_STEPS:
            break
    trainer.placement.wait()
    return (time.monotonic() - begun) / max(1, steps)


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
