"""Estimate of a search's time: some steps of the real thing are measured on this machine, then multiplied."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from rolewise.augment import BasePolicy, Policy
from rolewise.errors import Interrupted, RunError
from rolewise.population.engine import make_engine
from rolewise.population.member import Job, JobChannel
from rolewise.population.plan import Plan
from rolewise.population.runner import Runner
from rolewise.population.strategy import Strategy
from rolewise.progress import Progress
from rolewise.trainer import Trainer

_MEASURED_SECONDS = 2.0  # enough to forget the start of an epoch
_SCORED = 1000  # images


@dataclass(frozen=True)
class Speed:
    """Speed of one worker while all of them work.

    Args:
        steps: steps of an epoch.
        epoch_seconds: time of one epoch.
        evaluation_seconds: time of one evaluation of all validation images.
        exchange_seconds: time of loading a state and copying it out.
        state_bytes: size of one member's state.
        measured_seconds: duration of the measurement.
    """

    steps: int
    epoch_seconds: float
    evaluation_seconds: float
    exchange_seconds: float
    state_bytes: int
    measured_seconds: float


@dataclass(frozen=True)
class SpeedTest(Job):
    """A job that measures a worker's speed on the real thing: some steps, or epochs where they are short.

    Args:
        number: number of the job.
        policy: policy that images are augmented with.
    """

    number: int
    policy: BasePolicy = field(default_factory=Policy.none)

    @property
    def key(self) -> int:
        return self.number

    def __str__(self) -> str:
        return "the measurement of speed"

    def execute(self, runner: Runner, channel: JobChannel) -> Speed:
        begun = time.monotonic()
        trainer = runner.load_member(0, None)
        trainer.progress = Progress()
        watch = _Watch(channel, trainer.placement.wait)
        trainer.should_stop = watch.should_stop
        epoch_seconds = watch.epoch(trainer, self.policy)
        trainer.should_stop = channel.should_stop
        whole = runner.validation
        part = whole.subset(torch.arange(min(len(whole), _SCORED)))
        evaluation = _median(lambda: trainer.evaluate(part)) * len(whole) / len(part)
        state = trainer.state()
        exchange = _median(runner.exchange)
        size, whole_time = len(state.to_bytes()), time.monotonic() - begun
        return Speed(trainer.steps, epoch_seconds, evaluation, exchange, size, whole_time)


class _Watch:
    """Stops an epoch that takes too long to be measured whole."""

    def __init__(self, channel: JobChannel, wait: Callable[[], None]) -> None:
        self._channel, self._wait = channel, wait
        self._times: list[float] = []

    def should_stop(self) -> bool:
        """Notes the beginning of a batch, when the device has done the one before."""
        self._wait()
        self._times.append(time.monotonic())
        enough = len(self._times) > 3 and self._times[-1] - self._times[1] > _MEASURED_SECONDS
        return enough or self._channel.should_stop()

    def epoch(self, trainer: Trainer, policy: BasePolicy) -> float:
        """Seconds of one epoch, measured on whole ones where these are short; the first batch is not counted."""
        beginning = trainer.state()
        try:
            trainer.train_epoch(policy)
        except Interrupted:
            trainer.load_state(beginning)
            return (self._times[-1] - self._times[1]) / max(1, len(self._times) - 2) * trainer.steps
        trainer.should_stop = self._channel.should_stop
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


@dataclass(frozen=True)
class Estimate:
    """The time of a search and its parts, seconds.

    Args:
        seconds: time of the whole search.
        start: time until the workers are ready.
        training: training time of all members, as far as they do not run at once.
        evaluation: evaluation time, likewise.
        exchange: time of moving states between search and workers, likewise.
        workers: number of members that are trained at once.
        steps: optimizer steps of all members.
        evaluations: number of evaluations of a member on all validation images.
        images: number of training images seen by all members.
        state_bytes: size of one member's state; the search holds one for each member, a checkpoint likewise.
    """

    seconds: float
    start: float
    training: float
    evaluation: float
    exchange: float
    workers: int
    steps: int
    evaluations: int
    images: int
    state_bytes: int

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.1f} min" if self.seconds >= 60 else f"{self.seconds:.0f} s"
        parts = (
            f"training {self.training:.0f} s, evaluation {self.evaluation:.0f} s, start {self.start:.0f} s"
        )
        return (
            f"about {minutes} with {self.workers} members at a time ({parts}); {self.images:,} training images, "
            f"{self.evaluations:,} evaluations; states {self.state_bytes / 1e6:.1f} MB a member"
        )


def measure(plan: Plan, *, workers: int | None = None, progress: Progress | None = None) -> Estimate:
    """Starts the search's own workers, lets each take a few steps and an evaluation batch at the same time,
    and multiplies.

    Args:
        plan: the search.
        workers: see `rolewise.population.engine.make_engine`.
        progress: listener for notes.

    Raises:
        RunError: no worker could be measured.
    """
    begun = time.monotonic()
    with make_engine(plan.spec, plan.settings, workers=workers, progress=progress) as engine:
        tests = [SpeedTest(number) for number in range(engine.slots)]
        speeds: list[Speed] = []
        ready = 0.0
        for speed in engine.run(tests, lambda: False):
            ready = ready or time.monotonic() - begun - speed.measured_seconds
            speeds.append(speed)
        slots = engine.slots
    if not speeds:
        raise RunError("No worker could be measured.")
    batch = plan.spec.settings.batch_size
    return compute(speeds, plan.strategy, slots=slots, start=max(0.0, ready), batch_size=batch)


def compute(
    speeds: list[Speed], strategy: Strategy, *, slots: int, start: float, batch_size: int
) -> Estimate:
    """The time of a search from the speeds of its workers.

    Members meet at each boundary, so an interval takes as many turns as the fullest worker has members.
    """

    def mean(name: str) -> float:
        return sum(float(getattr(speed, name)) for speed in speeds) / len(speeds)

    population, epochs = strategy.settings.population, strategy.settings.epochs
    slots = min(slots, population)
    turns = -(-population // slots)
    scored = sum(strategy.scores_at(boundary) for boundary in strategy.boundaries)
    training = turns * epochs * mean("epoch_seconds")
    evaluation = turns * scored * mean("evaluation_seconds")
    exchange = turns * len(strategy.boundaries) * mean("exchange_seconds")
    steps = population * epochs * speeds[0].steps
    return Estimate(
        seconds=start + training + evaluation + exchange,
        start=start,
        training=training,
        evaluation=evaluation,
        exchange=exchange,
        workers=slots,
        steps=steps,
        evaluations=population * scored,
        images=steps * batch_size,
        state_bytes=speeds[0].state_bytes,
    )
