"""What a worker does: it trains any member from any state on, and gives back the new state.

A task is complete in itself, so it does not matter which worker runs it, nor how often it was begun before.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn

from rolewise.augment import BasePolicy
from rolewise.data import Split
from rolewise.errors import Interrupted
from rolewise.objective import Objective
from rolewise.population.initial import reinitialise
from rolewise.progress import Progress
from rolewise.trainer import State, Trainer, TrainSettings

Init = Literal["random", "given"]


@dataclass(frozen=True)
class SearchSpec:
    """Everything that the members of one search have in common.

    Args:
        model: the network, on the CPU; the search owns this copy.
        objective: already prepared.
        train: images that members train on.
        validation: held-out training images that members are scored on.
        settings: numbers of the training, resolved, one thread.
        seed, role: with the member's id, the key of order, augmentation and initial weights.
        init: "random" or "given", see `rolewise.search`.
        trainer: makes a trainer; a class or function of `Trainer`'s signature.
    """

    model: nn.Module
    objective: Objective
    train: Split
    validation: Split
    settings: TrainSettings
    seed: int
    role: str
    init: Init
    trainer: Callable[..., Trainer] = Trainer


class Contact(Protocol):
    """A worker's line to whoever gave it the job."""

    def should_stop(self) -> bool:
        """Whether to break off after this batch."""

    def beat(self, images: int) -> None:
        """`images` more images were trained on."""


@dataclass(frozen=True)
class Task:
    """One member, some epochs.

    Args:
        member: its id.
        state: where it stands, maybe amid an epoch; None is its beginning.
        policies: of the epochs to come, the one that it stands in included.
        evaluate: whether it is scored afterwards.
    """

    member: int
    state: State | None
    policies: tuple[BasePolicy, ...]
    evaluate: bool

    @property
    def key(self) -> int:
        return self.member

    def __str__(self) -> str:
        return f"member {self.member}"

    def execute(self, runner: "Runner", contact: Contact) -> "Outcome":
        return run_interval(runner, self, contact)


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Args:
        member: its id.
        state: where it stands now.
        finished: False if it was broken off; the task's rest can be done from `state`.
        score: validation accuracy; minus infinity if it diverged; None if it was not asked for, or not
            reached.
        lines: log entries, one for each epoch that was completed and one for the evaluation.
        images: training images it has seen.
        evaluations: 0 or 1.
        cpu_seconds: processor time.
        seconds: time by the clock.
        exchange_seconds: part of it spent on taking the state and giving it back.
    """

    member: int
    state: State
    finished: bool
    score: float | None
    lines: list[dict[str, Any]]
    images: int
    evaluations: int
    cpu_seconds: float
    seconds: float
    exchange_seconds: float

    @property
    def key(self) -> int:
        return self.member


class Runner:
    """A worker's one trainer, which takes the place of any member."""

    def __init__(self, spec: SearchSpec) -> None:
        self.spec = spec
        model, objective = copy.deepcopy(spec.model), copy.deepcopy(spec.objective)
        make = {"seed": spec.seed, "role": spec.role, "member": None}
        self.trainer = spec.trainer(model, objective, spec.train, spec.settings, **make)
        self._fresh = self.trainer.state()

    def become(self, member: int, state: State | None) -> Trainer:
        """The trainer as `member` at `state`."""
        self.trainer.set_member(member)
        if state is not None:
            self.trainer.load_state(state)
            return self.trainer
        self.trainer.load_state(self._fresh)
        if self.spec.init == "random":
            template = self.spec.model  # this process's own copy, on the CPU
            reinitialise(template, self.spec.seed, "init", self.spec.role, member)
            self.trainer.model.load_state_dict(template.state_dict())
        return self.trainer


def run_interval(runner: Runner, task: Task, contact: Contact) -> Outcome:
    """Trains a member over the task's epochs and scores it; breaks off between two batches when told to."""
    wall, processor = time.monotonic(), time.process_time()
    trainer = runner.become(task.member, task.state)
    exchange = time.monotonic() - wall
    trainer.should_stop, trainer.progress = contact.should_stop, _Beats(contact)
    begun = trainer.epoch * trainer.steps + trainer.step
    lines: list[dict[str, Any]] = []
    finished, score, evaluations = True, None, 0
    try:
        for policy in task.policies:
            metrics = trainer.train_epoch(policy)
            lines.append({"split": "train", "epoch": trainer.epoch, **metrics.values})
            if not metrics.finite:
                score = -math.inf
                break
        if task.evaluate and score is None:
            measured = trainer.evaluate(runner.spec.validation)
            values = {"accuracy": measured.accuracy, "loss": measured.loss}
            lines.append({"split": "validation", "epoch": trainer.epoch, **values})
            evaluations = 1
            score = measured.accuracy if math.isfinite(measured.loss) else -math.inf
    except Interrupted:
        finished = False
    done = time.monotonic()
    state = trainer.state()
    exchange += time.monotonic() - done
    if finished and not _finite(state):
        score = -math.inf
    return Outcome(
        task.member,
        state,
        finished,
        score,
        lines,
        images=(trainer.epoch * trainer.steps + trainer.step - begun) * trainer.settings.batch_size,
        evaluations=evaluations,
        cpu_seconds=time.process_time() - processor,
        seconds=time.monotonic() - wall,
        exchange_seconds=exchange,
    )


class _Beats(Progress):
    def __init__(self, contact: Contact) -> None:
        self._contact = contact

    def batch(self, images: int) -> None:
        self._contact.beat(images)


def _finite(state: State) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.part("model").values())
