"""The loop of a search: train all members to the next boundary, decide, keep a checkpoint, go on.

The search holds every member's state as of the last boundary, and workers hold nothing, so neither their
number nor their deaths show in the result.
"""

import math
import time
from collections.abc import Callable, Sequence

from rolewise.augment import BasePolicy, Policy, Schedule
from rolewise.errors import Interrupted, RunError
from rolewise.population.engine import Engine
from rolewise.population.journal import Journal
from rolewise.population.lineage import Exploit, Lineage
from rolewise.population.member import Task
from rolewise.population.options import SearchOptions
from rolewise.population.pbt import Move, comparable, exploit, explore, ranking, sound
from rolewise.population.standing import Member, Standing
from rolewise.progress import Progress
from rolewise.seeds import numpy_generator


class Driver:
    """Runs one search to its end.

    Args:
        options: its numbers.
        beginnings: the schedule that each member follows until it is overwritten.
        engine: trains the members.
        journal: keeps log and checkpoints.
        seed, role: key of the decisions' random numbers.
        progress: is told of scores and moves.
        should_stop: asked all the time; once it says yes, everything is saved within a batch.
    """

    def __init__(
        self,
        options: SearchOptions,
        beginnings: Sequence[Schedule],
        engine: Engine,
        journal: Journal,
        *,
        seed: int,
        role: str,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._options, self._beginnings = options, beginnings
        self._engine, self._journal = engine, journal
        self._seed, self._role = seed, role
        self._progress = progress or Progress()
        self._should_stop = should_stop or (lambda: False)
        members = [Member(number) for number in range(options.population)]
        self.standing = Standing(members, Lineage(options.population, options.epochs, options.initial))

    def resume(self) -> None:
        """Goes on from the newest checkpoint, if there is one."""
        self._journal.resume(self.standing)

    def run(self) -> Standing:
        """To the end of the search.

        Raises:
            Interrupted: `should_stop` said so, and all members are saved as they were.
            RunError: all members diverged, or workers died again and again; what was reached is saved.
        """
        standing, begun = self.standing, time.monotonic() - self.standing.cost.wall_seconds
        try:
            for boundary in self._options.boundaries:
                if boundary <= standing.completed:
                    continue
                self._train(boundary)
                self._meet(boundary)
                standing.cost.wall_seconds = time.monotonic() - begun
                if boundary < self._options.epochs:
                    self._journal.save(standing)
        except Interrupted:
            standing.cost.wall_seconds = time.monotonic() - begun
            self._journal.save(standing, now=True)
            raise
        except (Exception, KeyboardInterrupt) as error:
            self._journal.save_after(error, standing)
            raise
        return standing

    def _train(self, boundary: int) -> None:
        """Brings all active members to `boundary`."""
        members = self.standing.members
        going = [member for member in members if member.status == "active" and not member.reached]
        # The list of tasks is kept by nobody here: each holds a member's old state.
        outcomes = self._engine.run([self._task(member, boundary) for member in going], self._should_stop)
        for outcome in outcomes:
            members[outcome.member].take(outcome)
            self.standing.cost.add(outcome)
        if not all(member.reached for member in going):
            raise Interrupted(f"stopped on the way to epoch {boundary} of {self._options.epochs}")

    def _task(self, member: Member, boundary: int) -> Task:
        policies = tuple(self._policy(member, epoch) for epoch in range(member.epoch, boundary))
        return Task(member.id, member.state, policies, self._options.evaluates(boundary))

    def _policy(self, member: Member, epoch: int) -> BasePolicy:
        if member.vector is not None:
            return Policy.from_vector(member.vector)
        return self._beginnings[member.id][epoch]

    def _meet(self, boundary: int) -> None:
        """What happens when all members have reached `boundary`: scores, exploits, log."""
        begun = time.monotonic()
        standing = self.standing
        scored = self._options.evaluates(boundary)
        fresh = [member for member in standing.members if member.status == "diverged" and member.reached]
        standing.diverged += len(fresh)
        for member in fresh:
            self._progress.note(f"Member {member.id} diverged by epoch {member.epoch}.")
        scores = [_score(member) for member in standing.members]
        if not any(member.status == "active" for member in standing.members):
            raise RunError(self._diagnosis(boundary))
        moves: list[Move] = []
        exploits: list[Exploit] = []
        if self._options.exploits and boundary < self._options.epochs:
            moves, exploits = self._decide(boundary, scores)
        self._journal.boundary(standing.members, exploits)
        for member in standing.members:
            member.reached, member.lines = False, []
        for move, decision in zip(moves, exploits, strict=True):
            self._copy(move, decision)
        self._stop_hopeless(scores, moves)
        standing.completed = boundary
        if scored:
            standing.history.append({"epoch": boundary, "scores": scores})
            self._progress.scores(boundary, scores, moves)
        self._progress.epoch(boundary, {"best": max(scores)} if scored else {})
        standing.cost.controller_seconds += time.monotonic() - begun

    def _decide(self, boundary: int, scores: list[float]) -> tuple[list[Move], list[Exploit]]:
        """The moves after `boundary`, and their log entries; a function of scores and seed alone."""
        rng = numpy_generator(self._seed, "pbt", self._role, boundary)
        moves = exploit(scores, rng, quantile=self._options.quantile)
        exploits = []
        for target, source in moves:
            old = self._vector(self.standing.members[source], boundary)
            new = explore(old, rng, resample=self._options.resample)
            logged = [score if sound(score) else None for score in (scores[target], scores[source])]
            exploits.append(Exploit(boundary, target, source, logged[0], logged[1], tuple(old), tuple(new)))
        return moves, exploits

    def _vector(self, member: Member, epoch: int) -> Sequence[int]:
        """What the member would train under next."""
        if member.vector is not None:
            return member.vector
        initial = self.standing.lineage.initial
        return Policy.none().to_vector() if initial is None else initial[epoch]

    def _copy(self, move: Move, decision: Exploit) -> None:
        """The target becomes the source: weights, buffers, optimizer and epoch; its own order of images stays
        its own."""
        target, source = self.standing.members[move.target], self.standing.members[move.source]
        target.state, target.vector, target.status = source.state, decision.new, "active"
        self.standing.lineage.add(decision)

    def _stop_hopeless(self, scores: list[float], moves: Sequence[Move]) -> None:
        """Members that are too far behind and were not overwritten wait until they are."""
        margin = self._options.early_stop
        if margin is None or not self._options.exploits:
            return
        targets = {move.target for move in moves}
        for member in self.standing.members:
            behind = max(scores) - scores[member.id]
            if member.id not in targets and member.status == "active" and behind > margin:
                member.status = "stopped"

    def _diagnosis(self, boundary: int) -> str:
        members = self.standing.members
        seen = [
            line for member in members for line in member.lines if not math.isfinite(line.get("loss", 0.0))
        ]
        first = f"; the loss was {seen[0]['loss']} in epoch {seen[0]['epoch']}" if seen else ""
        stopped = any(member.status == "stopped" for member in members)
        also = " or were stopped for being far behind" if stopped else ""
        return (
            f"All {len(members)} members diverged{also} by epoch {boundary}{first}: no weights are left to go on from. "
            "The usual cause is a learning rate that is too high for this network; lower it, or look at the images "
            "and at the distillation loss."
        )


def _score(member: Member) -> float:
    if member.status != "active" or member.score is None:
        return -math.inf
    return comparable(member.score)


def best_member(scores: Sequence[float]) -> int:
    """The highest score; the lowest id at equal ones."""
    return ranking(scores)[0]
