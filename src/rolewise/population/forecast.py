"""How long a search will take: measured on a few steps of the real thing on this machine, then computed."""

import time
from dataclasses import dataclass

from rolewise.errors import RunError
from rolewise.population.options import SearchOptions
from rolewise.population.pace import Pace, Trial
from rolewise.population.plan import Machine, Plan
from rolewise.progress import Progress


@dataclass(frozen=True)
class Estimate:
    """The time of a search, and what it is made of; seconds.

    Args:
        seconds: of the whole search.
        start: until the workers are ready.
        training: of all members, as far as they do not run at once.
        evaluation: likewise.
        exchange: of states, between search and workers.
        workers: how many members are trained at once.
        steps: optimizer steps of all members.
        evaluations: of a member on all validation images.
        images: training images seen by all members.
        state_bytes: of one member; the search holds one for each member, a checkpoint likewise.
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


def measure(plan: Plan, machine: Machine, progress: Progress) -> Estimate:
    """Starts the search's own workers, lets each take a few steps and an evaluation batch at the same time,
    and computes.

    Raises:
        RunError: a worker could not be measured.
    """
    begun = time.monotonic()
    with machine.start(plan.spec, plan.options.population, progress) as engine:
        trials = [Trial(number) for number in range(engine.slots)]
        paces: list[Pace] = []
        ready = 0.0
        for pace in engine.run(trials, lambda: False):
            ready = ready or time.monotonic() - begun - pace.measured_seconds
            paces.append(pace)
        slots = engine.slots
    if not paces:
        raise RunError("No worker could be measured.")
    batch = plan.spec.settings.batch_size
    return compute(paces, plan.options, slots=slots, start=max(0.0, ready), batch_size=batch)


def compute(
    paces: list[Pace], options: SearchOptions, *, slots: int, start: float, batch_size: int
) -> Estimate:
    """From the workers' paces to the time of a search.

    Members meet at each boundary, so an interval takes as many turns as the fullest worker has members.
    """

    def mean(name: str) -> float:
        return sum(float(getattr(pace, name)) for pace in paces) / len(paces)

    slots = min(slots, options.population)
    turns = -(-options.population // slots)
    scored = sum(options.evaluates(boundary) for boundary in options.boundaries)
    training = turns * options.epochs * mean("epoch_seconds")
    evaluation = turns * scored * mean("evaluation_seconds")
    exchange = turns * len(options.boundaries) * mean("exchange_seconds")
    steps = options.population * options.epochs * paces[0].steps
    return Estimate(
        seconds=start + training + evaluation + exchange,
        start=start,
        training=training,
        evaluation=evaluation,
        exchange=exchange,
        workers=slots,
        steps=steps,
        evaluations=options.population * scored,
        images=steps * batch_size,
        state_bytes=paces[0].state_bytes,
    )
