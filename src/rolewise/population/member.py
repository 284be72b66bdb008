"""What a worker does: train any member, from its initial weights or from any state, and return the new state.

A task is complete in itself, so it does not matter which worker runs it, nor how often it was begun before.
"""

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from rolewise.augment import BasePolicy
from rolewise.errors import Interrupted
from rolewise.population.runner import Runner
from rolewise.progress import Progress
from rolewise.trainer import State


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
    def execute(self, runner: Runner, channel: JobChannel) -> Any:
        """Does the work; the result is what the engine yields."""


@dataclass(frozen=True)
class Task(Job):
    """Some epochs of one member.

    Args:
        member: id of the member.
        state: state to continue from, possibly in mid-epoch; None is the member's beginning.
        policies: policies for the remaining epochs, starting with the current one.
        evaluate: True scores the member afterwards.
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

    def execute(self, runner: Runner, channel: JobChannel) -> "Outcome":
        return run_interval(runner, self, channel)


@dataclass(frozen=True)
class Outcome:
    """The result of a task.

    Args:
        member: id of the member.
        state: state after the task.
        finished: False if it was broken off; the rest can be done from `state`.
        diverged: True if loss or weights are not finite.
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
            measured = trainer.evaluate(runner.validation)
            values = {"accuracy": measured.accuracy, "loss": measured.loss}
            lines.append({"split": "validation", "epoch": trainer.epoch, **values})
            evaluations, score, diverged = 1, measured.accuracy, not math.isfinite(measured.loss)
    except Interrupted:
        finished = False
    done = time.monotonic()
    state = runner.take_state()
    exchange += time.monotonic() - done
    diverged = diverged or (finished and not runner.is_finite(state))
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
