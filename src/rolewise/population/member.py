"""What a worker does: train any member, from its initial weights or from any state, and return the new state.

A task is complete in itself, so it does not matter which worker runs it, nor how often it was begun before.
"""

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rolewise.augment import BasePolicy
from rolewise.data import Split
from rolewise.errors import InputError, Interrupted
from rolewise.objective import Init, Objective
from rolewise.progress import Progress
from rolewise.seeds import derive_seed, torch_generator
from rolewise.trainer import State, Trainer, TrainSettings


@dataclass(frozen=True)
class SearchSpec:
    """Everything that the members of one search have in common.

    Args:
        model: network, on the CPU; the search owns this copy.
        objective: objective of all members, already prepared.
        train: images that members train on.
        validation: held-out training images that members are scored on.
        settings: numbers of the training, resolved, one thread.
        seed, role: key, with the member's id, of order, augmentation and initial weights.
        init: "random" or "given", see `rolewise.search`.
        trainer: class, or function of the same signature, that makes a `Trainer`.
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


class JobChannel(ABC):
    """What connects a running job with the engine that gave it."""

    @abstractmethod
    def should_stop(self) -> bool:
        """Whether to break off before the next batch."""

    @abstractmethod
    def report(self, images: int) -> None:
        """Counts `images` more training images."""


class Job(ABC):
    """Work that is complete in itself: run twice, it gives the same."""

    @property
    @abstractmethod
    def key(self) -> int:
        """Its number among the jobs of one call."""

    @abstractmethod
    def execute(self, runner: "Runner", channel: JobChannel) -> Any:
        """Does the work; the result is what the engine yields."""


@dataclass(frozen=True)
class Task(Job):
    """Some epochs of one member.

    Args:
        member: id of the member.
        state: state to continue from, maybe amid an epoch; None is the member's beginning.
        policies: policies for the remaining epochs, starting with the current one.
        evaluate: whether the member is scored afterwards.
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

    def execute(self, runner: "Runner", channel: JobChannel) -> "Outcome":
        return run_interval(runner, self, channel)


@dataclass(frozen=True)
class Outcome:
    """The result of a task.

    Args:
        member: id of the member.
        state: state after the task.
        finished: False if it was broken off; the rest can be done from `state`.
        diverged: whether loss or weights are not finite.
        score: validation accuracy, a fraction; None if it diverged, or was not evaluated.
        lines: log entries, one for each epoch that was completed and one for the evaluation.
        images: number of training images seen.
        evaluations: number of evaluations, 0 or 1.
        cpu_seconds: processor time.
        seconds: wall-clock time.
        exchange_seconds: part of `seconds` spent on loading and copying states.
    """

    member: int
    state: State
    finished: bool
    diverged: bool
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
    """A worker's one trainer, into which the member of each job is loaded."""

    def __init__(self, spec: SearchSpec) -> None:
        self.spec = spec
        model, objective = copy.deepcopy(spec.model), copy.deepcopy(spec.objective)
        make = {"seed": spec.seed, "role": spec.role, "member": None}
        self.trainer = spec.trainer(model, objective, spec.train, spec.settings, **make)
        self._fresh = self.trainer.state()

    def load_member(self, member: int, state: State | None) -> Trainer:
        """The trainer with `member` loaded, at `state` or at its beginning."""
        self.trainer.set_member(member)
        if state is not None:
            self.trainer.load_state(state)
            return self.trainer
        self.trainer.load_state(self._fresh)
        if self.spec.init == "random":
            template = self.spec.model  # this process's own copy, on the CPU
            reinitialize(template, self.spec.seed, "init", self.spec.role, member)
            self.trainer.model.load_state_dict(template.state_dict())
        return self.trainer


def run_interval(runner: Runner, task: Task, channel: JobChannel) -> Outcome:
    """Trains a member over the task's epochs and scores it; breaks off between two batches on request."""
    wall, processor = time.monotonic(), time.process_time()
    trainer = runner.load_member(task.member, task.state)
    exchange = time.monotonic() - wall
    trainer.should_stop, trainer.progress = channel.should_stop, _Reports(channel)
    begun = trainer.epoch * trainer.steps + trainer.step
    lines: list[dict[str, Any]] = []
    finished, diverged, score, evaluations = True, False, None, 0
    try:
        for policy in task.policies:
            metrics = trainer.train_epoch(policy)
            lines.append({"split": "train", "epoch": trainer.epoch, **metrics.values})
            if not metrics.finite:
                diverged = True
                break
        if task.evaluate and not diverged:
            measured = trainer.evaluate(runner.spec.validation)
            values = {"accuracy": measured.accuracy, "loss": measured.loss}
            lines.append({"split": "validation", "epoch": trainer.epoch, **values})
            evaluations, score, diverged = 1, measured.accuracy, not math.isfinite(measured.loss)
    except Interrupted:
        finished = False
    done = time.monotonic()
    state = trainer.state()
    exchange += time.monotonic() - done
    diverged = diverged or (finished and not _finite(state))
    return Outcome(
        task.member,
        state,
        finished,
        diverged,
        None if diverged else score,
        lines,
        images=(trainer.epoch * trainer.steps + trainer.step - begun) * trainer.settings.batch_size,
        evaluations=evaluations,
        cpu_seconds=time.process_time() - processor,
        seconds=time.monotonic() - wall,
        exchange_seconds=exchange,
    )


class _Reports(Progress):
    def __init__(self, channel: JobChannel) -> None:
        self._channel = channel

    def batch(self, images: int) -> None:
        self._channel.report(images)


def _finite(state: State) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.part("model").values())


def reinitialize(model: nn.Module, *key: int | str | None) -> None:
    """Redraws all weights of `model`, in place, from the stream of `key`; every buffer is as at the start.

    A network with `reset(generator)` does it itself; otherwise each layer's `reset_parameters` is called,
    inner ones first, with torch's global generator seeded for that time alone.

    Args:
        model: network on the CPU, so that the same key gives the same weights wherever it is trained.
        key: key of the random stream, such as (seed, "init", role, member).

    Raises:
        InputError: a layer that has parameters and neither of the two methods.
    """
    reset = _own_reset(model)
    if reset is not None:
        reset(torch_generator(*key))
        return
    check_resettable(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*key))

        def redraw(module: nn.Module) -> None:
            method = getattr(module, "reset_parameters", None)
            if callable(method):
                method()

        model.apply(redraw)


def check_resettable(model: nn.Module) -> None:
    """Checks that all weights can be redrawn.

    Raises:
        InputError: a layer that has parameters but neither `reset(generator)` nor `reset_parameters`; all are
        named.
    """
    if _own_reset(model) is not None:
        return
    faults = [
        f'"{name}" ({type(module).__name__})' if name else type(module).__name__
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
        and not callable(getattr(module, "reset_parameters", None))
    ]
    if faults:
        raise InputError(
            f"Members of a search begin with weights of their own, but {type(model).__name__} has no "
            f"`reset(generator)` and these layers no `reset_parameters`: {', '.join(faults)}. "
            'Write one of the two, or let all members begin with the given weights: init="given".'
        )


def _own_reset(model: nn.Module) -> Callable[[torch.Generator], Any] | None:
    reset = getattr(model, "reset", None)
    return reset if callable(reset) else None
