"""How fast a worker is: measured on a few steps of the real thing, so that a search's time can be told before
it starts."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from rolewise.augment import BasePolicy, Policy
from rolewise.errors import Interrupted
from rolewise.population.member import Contact, Runner
from rolewise.progress import Progress
from rolewise.trainer import State, Trainer

_MEASURED_SECONDS = 2.0  # enough to forget the start of an epoch
_SCORED = 1000  # images


@dataclass(frozen=True)
class Pace:
    """How fast one worker is while all of them work.

    Args:
        steps: of an epoch.
        epoch_seconds: one epoch.
        evaluation_seconds: one evaluation of all validation images.
        exchange_seconds: taking a state and giving it back.
        state_bytes: of one member's state.
        measured_seconds: how long the measurement took.
    """

    steps: int
    epoch_seconds: float
    evaluation_seconds: float
    exchange_seconds: float
    state_bytes: int
    measured_seconds: float


@dataclass(frozen=True)
class Trial:
    """A job that measures a worker's pace on the real thing: some steps, or epochs where they are short.

    Args:
        number: of the worker's turn.
        policy: that images are augmented with.
    """

    number: int
    policy: BasePolicy = field(default_factory=Policy.none)

    @property
    def key(self) -> int:
        return self.number

    def __str__(self) -> str:
        return "the measurement of speed"

    def execute(self, runner: Runner, contact: Contact) -> Pace:
        begun = time.monotonic()
        trainer = runner.become(0, None)
        trainer.progress = Progress()
        watch = _Watch(contact)
        trainer.should_stop = watch.should_stop
        epoch_seconds = watch.epoch(trainer, self.policy)
        trainer.should_stop = contact.should_stop
        whole = runner.spec.validation
        part = whole.subset(torch.arange(min(len(whole), _SCORED)))
        evaluation = _median(lambda: trainer.evaluate(part)) * len(whole) / len(part)
        state = trainer.state()
        exchange = _median(lambda: trainer.load_state(State.from_bytes(trainer.state().to_bytes())))
        size, whole_time = len(state.to_bytes()), time.monotonic() - begun
        return Pace(trainer.steps, epoch_seconds, evaluation, exchange, size, whole_time)


class _Watch:
    """Stops an epoch that takes too long to be measured whole."""

    def __init__(self, contact: Contact) -> None:
        self._contact = contact
        self._times: list[float] = []

    def should_stop(self) -> bool:
        """Notes the beginning of a batch."""
        self._times.append(time.monotonic())
        enough = len(self._times) > 3 and self._times[-1] - self._times[1] > _MEASURED_SECONDS
        return enough or self._contact.should_stop()

    def epoch(self, trainer: Trainer, policy: BasePolicy) -> float:
        """Seconds of one epoch, measured on whole ones where these are short; the first batch is not
        counted."""
        beginning = trainer.state()
        try:
            trainer.train_epoch(policy)
        except Interrupted:
            trainer.load_state(beginning)
            return (self._times[-1] - self._times[1]) / max(1, len(self._times) - 2) * trainer.steps
        trainer.should_stop = self._contact.should_stop
        begin, epochs = time.monotonic(), 0
        while time.monotonic() - begin < _MEASURED_SECONDS:
            trainer.train_epoch(policy)
            epochs += 1
        return (time.monotonic() - begin) / epochs


def _median(call: Callable[[], Any], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        begin = time.monotonic()
        call()
        taken.append(time.monotonic() - begin)
    return sorted(taken)[len(taken) // 2]
