"""Estimate of a run on this machine: time, measured on a few steps and then computed, and disk space."""

import copy
from collections.abc import Callable
from functools import cached_property

import torch
from torch import nn

from rolewise._machine import Stopwatch, in_words
from rolewise._roles import ROLES, STUDENT, TEACHER
from rolewise.config import Config
from rolewise.data import Data
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.population import Estimate, make_plan, measure
from rolewise.runs import layout
from rolewise.stages import build
from rolewise.stages.check import check
from rolewise.stages.trainings import TRAININGS, Training, searches, teacher_given, wanted_baselines
from rolewise.trainer import Trainer, torch_threads
from rolewise.trainer.recorded import record

_FLOAT = 4  # bytes
_COPIES = 2  # of each parameter: itself and its momentum
_KEPT = 3  # checkpoints of a stage: the last two, and the one that is being written

_SAMPLES = 8  # of a training step, at most
_SAMPLE_SECONDS = 3.0  # by the clock, after which no further sample is taken
_GPU_STEPS = 4  # of one sample
_WARM, _TIMED, _FEW = 256, 1024, 32  # images on which the preparation of a loss is tried, and timed
_BUSY = 1.5  # times as long by the clock: worth a word


def estimate(
    config: Config,
    only: str | None = None,
    *,
    done: Callable[[str], bool] | None = None,
    report: Callable[[str], None] | None = None,
    further: Training | None = None,
) -> str:
    """A text of one line a stage, and the sum; each sample is bounded, so that a large network takes no longer.

    Nothing is written and no test image is read. The teacher is untrained here, and a loss that trains parts of its own
    on the teacher is given a short epoch of it; neither changes what a step costs. Times are the shortest of several
    samples, without the share of other programs (`Stopwatch`); a last line says if these have slowed the samples down.

    Args:
        config: settings of a run; they are checked first, as those of a new run are.
        only: the one stage that is wanted, such as "search-teacher" or "train-student".
        done: whether a stage is complete already, in a run that is resumed; None for a new run.
        report: receives each line as soon as it is known.
        further: control that is added to the run, in place of the training of its role.

    Raises:
        InputError: settings that cannot be.
    """
    rehearsal = _Rehearsal(build.resolve(config), check(config, only=only, begun=done is not None))
    complete = done or (lambda stage: False)
    seconds: list[float] = []
    lines: list[str] = []

    def add(text: str, takes: float | None = None) -> None:
        lines.append(text)
        seconds.append(takes or 0.0)
        if report is not None:
            report(text)

    def wanted(stage: str) -> bool:
        return only in (None, stage) and not complete(stage)

    students = only is None or STUDENT in only
    if students and not complete(layout.PREPARE) and rehearsal.preparing:
        takes = rehearsal.preparing
        add(f"preparing the loss on the teacher: about {in_words(takes)}", takes)
    for role in ROLES:
        stage = layout.search_stage(role)
        if wanted(stage) and (only or searches(config, role)):
            found = rehearsal.search(role)
            add(f"search of the {role}'s schedule: {found}", found.seconds)
    given = [TRAININGS[TEACHER]] if not teacher_given(config) else []
    baselines = wanted_baselines(config) if only is None else []
    trainings = [*given, TRAININGS[STUDENT], *baselines] if further is None else [further]
    for training in trainings:
        if wanted(training.stage) or (training is further and not complete(training.stage)):
            takes = rehearsal.training(training.role, kd=training.kd)
            add(f"{training.expected_title(config)}: about {in_words(takes)}", takes)
    if only is None:
        add(f"together about {in_words(sum(seconds))}")
    elif not lines:
        add("nothing is left to do")
    if (slowdown := rehearsal.slowdown) > _BUSY:
        add(
            f"other programs are at work: the samples took {slowdown:.1f} times as long by the clock; with them the "
            "run takes longer by about that much"
        )
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
        self._wall = self._undisturbed = 0.0
        self._slowdowns: list[float] = []

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
        first = Stopwatch()
        copy.deepcopy(objective).prepare(warm, seed=config.seed, device=device)  # kernels are loaded
        took, many = first.undisturbed, len(warm)
        if first.wall < _SAMPLE_SECONDS:  # else the first sample is long enough for the load not to count
            second = Stopwatch()
            objective.prepare(timed, seed=config.seed, device=device)
            took, many = second.undisturbed, len(timed)
            self._note(second)
        else:
            objective.prepare(
                warm.subset(torch.arange(min(_FEW, len(warm)))), seed=config.seed, device=device
            )
        return objective, took * config.kd.prepare_epochs * len(images) / many

    def _note(self, watch: Stopwatch) -> None:
        self._wall += watch.wall
        self._undisturbed += watch.undisturbed

    @property
    def slowdown(self) -> float:
        """How many times longer the samples took by the clock than without other programs."""
        own = self._wall / self._undisturbed if self._undisturbed else 1.0
        return max([own, *self._slowdowns])

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
        found = measure(plan, workers=config.machine.workers)
        self._slowdowns.append(found.slowdown)
        return found

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
                    settings,
                    seed=0,
                )
                step = self._seconds_of_a_step(trainer)
            self._trainings[role, kd] = step * settings.epochs * trainer.steps
        return self._trainings[role, kd]

    def _seconds_of_a_step(self, trainer: Trainer) -> float:
        """The shortest of up to eight samples, in a few seconds; the first step, which allocates, is none of them."""
        record(trainer)  # as the training will, on a GPU
        trainer.begin_epoch()
        take = trainer.train_step if trainer.recorded is None else trainer.recorded
        # A device is not waited for at each step.
        many = _GPU_STEPS if trainer.placement.device.type == "cuda" else 1
        whole, samples = Stopwatch(), list[float]()
        watch, steps = whole, -1
        for batch in trainer.feeder.batches(0, None):
            take(batch)
            steps += 1
            if steps % many == 0:
                trainer.placement.wait()
                if steps:
                    samples.append(watch.undisturbed / many)
                watch = Stopwatch()
                if samples and (len(samples) == _SAMPLES or whole.wall > _SAMPLE_SECONDS):
                    break
        self._note(whole)
        return min(samples, default=whole.undisturbed / max(1, steps + 1))
