"""Estimate of a search's time: some steps of the real thing are measured on this machine, then multiplied."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from rolewise._machine import Stopwatch, in_words
from rolewise.augment import BasePolicy, Policy
from rolewise.data import Split
from rolewise.errors import Interrupted, RunError
from rolewise.population.engine import make_engine
from rolewise.population.member import Job, JobChannel
from rolewise.population.plan import Plan
from rolewise.population.runner import Runner
from rolewise.population.strategy import Strategy
from rolewise.progress import Progress
from rolewise.trainer import Trainer

_MEASURED_SECONDS = 2.0  # enough to forget the start of an epoch
_SCORED = 1000  # images, at most, of a timed evaluation
_TRIED = 100  # images of the evaluation that says how many can be timed
_EVALUATION_SECONDS = 1.0


@dataclass(frozen=True)
class Speed:
    """Speed of one worker while all of them work.

    Args:
        steps: steps of an epoch.
        epoch_seconds: time of one epoch.
        evaluation_seconds: time of one evaluation of all validation images.
        exchange_seconds: time of loading a state and copying it out.
        state_bytes: size of one member's state.
        measured_seconds: duration of the measurement, by the clock.
        slowdown: how many times longer it took by the clock than it would have without other programs; the times
            above are those without.
    """

    steps: int
    epoch_seconds: float
    evaluation_seconds: float
    exchange_seconds: float
    state_bytes: int
    measured_seconds: float
    slowdown: float = 1.0


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
        whole_time = Stopwatch()
        trainer = runner.load_member(0, None)
        trainer.progress = Progress()
        watch = _Watch(channel, trainer.placement.wait)
        trainer.should_stop = watch.should_stop
        epoch_seconds = watch.epoch(trainer, self.policy)
        trainer.should_stop = channel.should_stop
        evaluation = _evaluation_seconds(trainer, runner.validation)
        state = trainer.state()
        exchange = _least(runner.exchange)
        size, wall = len(state.to_bytes()), whole_time.wall
        slowdown = wall / max(whole_time.undisturbed, 1e-9)
        return Speed(trainer.steps, epoch_seconds, evaluation, exchange, size, wall, slowdown)


def _evaluation_seconds(trainer: Trainer, whole: Split) -> float:
    """Seconds of an evaluation of all images, from as many as take about a second."""
    tried = whole.subset(torch.arange(min(len(whole), _TRIED)))
    first = _least(lambda: trainer.evaluate(tried), times=1)
    images = min(len(whole), _SCORED, max(len(tried), int(len(tried) * _EVALUATION_SECONDS / first)))
    part = whole.subset(torch.arange(images))
    return _least(lambda: trainer.evaluate(part), times=2) * len(whole) / len(part)


class _Watch:
    """Stops an epoch that takes too long to be measured whole."""

    def __init__(self, channel: JobChannel, wait: Callable[[], None]) -> None:
        self._channel, self._wait = channel, wait
        self._clock = Stopwatch()
        self._times: list[float] = []

    def should_stop(self) -> bool:
        """Notes the beginning of a batch, when the device has done the one before."""
        self._wait()
        self._times.append(self._clock.undisturbed)
        enough = len(self._times) > 2 and self._clock.wall > _MEASURED_SECONDS
        return enough or self._channel.should_stop()

    def epoch(self, trainer: Trainer, policy: BasePolicy) -> float:
        """Seconds of one epoch, measured on whole ones where these are short; the first batch is not counted."""
        beginning = trainer.state()
        self._clock = Stopwatch()
        try:
            trainer.train_epoch(policy)
        except Interrupted:
            trainer.load_state(beginning)
            steps = [later - earlier for earlier, later in pairwise(self._times[1:])]
            return min(steps) * trainer.steps
        trainer.should_stop = self._channel.should_stop
        begin, epochs = time.monotonic(), []
        while time.monotonic() - begin < _MEASURED_SECONDS:
            epochs.append(_least(lambda: trainer.train_epoch(policy), times=1))
        return min(epochs)


def _least(call: Callable[[], Any], times: int = 3) -> float:
    """The shortest of several times, seconds, without the share of other programs."""
    taken = []
    for _ in range(times):
        watch = Stopwatch()
        call()
        taken.append(watch.undisturbed)
    return max(min(taken), 1e-9)


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
        slowdown: how many times longer the measurement took by the clock than it would have without other programs;
            the times above are those without.
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
    slowdown: float = 1.0

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {in_words(getattr(self, name))}" for name in ("training", "evaluation", "start")
        )
        return (
            f"about {in_words(self.seconds)} with {self.workers} members at a time ({parts}); "
            f"{self.images:,} training images, {self.evaluations:,} evaluations; "
            f"states {self.state_bytes / 1e6:.1f} MB a member"
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

    slowdown = mean("slowdown")
    start /= slowdown  # the workers' start was slowed down alike
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
        slowdown=slowdown,
    )
