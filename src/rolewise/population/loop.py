"""The loop of a search: train all members to the next boundary, decide, save, repeat.

The search holds every member's state as of the last boundary, and workers hold nothing, so neither their
number nor their deaths show in the result.
"""

import math
import time
from collections.abc import Callable, Sequence

from rolewise.augment import BasePolicy, Policy, Schedule
from rolewise.errors import Interrupted, RunError
from rolewise.population.engine import Engine
from rolewise.population.lineage import Exploit
from rolewise.population.log import SearchLog
from rolewise.population.member import Task
from rolewise.population.pbt import comparable
from rolewise.population.state import Member, SearchState
from rolewise.population.strategy import Strategy, Vector, vector_of
from rolewise.progress import Progress
from rolewise.seeds import numpy_generator


class SearchLoop:
    """Runs one search to its end.

    Args:
        strategy: the search algorithm.
        beginnings: schedule that each member follows until it is overwritten.
        engine: engine that trains the members.
        log: writer of logs and checkpoints.
        seed, role: key of the decisions' random numbers.
        progress: listener for scores and moves.
        should_stop: polled continuously; once it returns True, everything is saved within a batch.
    """

    def __init__(
        self,
        strategy: Strategy,
        beginnings: Sequence[Schedule],
        engine: Engine,
        log: SearchLog,
        *,
        seed: int,
        role: str,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._strategy, self._beginnings = strategy, beginnings
        self._engine, self._log = engine, log
        self._seed, self._role = seed, role
        self._progress = progress or Progress()
        self._should_stop = should_stop or (lambda: False)
        self._settings = strategy.settings
        self.state = SearchState.fresh(strategy, beginnings)

    def resume(self) -> None:
        """Continues from the newest checkpoint, if there is one."""
        self._log.resume(self.state)

    def run(self) -> SearchState:
        """Runs to the end of the search.

        Raises:
            Interrupted: `should_stop` returned True, and all members are saved as they were.
            RunError: all members diverged, or workers died repeatedly; what was reached is saved.
        """
        state, begun = self.state, time.monotonic() - self.state.cost.wall_seconds
        try:
            for boundary in self._strategy.boundaries:
                if boundary <= state.completed:
                    continue
                self._train(boundary)
                self._conclude_interval(boundary)
                state.cost.wall_seconds = time.monotonic() - begun
                if boundary < self._settings.epochs:
                    self._log.save(state)
        except Interrupted:
            state.cost.wall_seconds = time.monotonic() - begun
            self._log.save(state, now=True)
            raise
        except (Exception, KeyboardInterrupt) as error:
            self._log.save_after(error, state)
            raise
        return state

    def _train(self, boundary: int) -> None:
        """Brings all active members to `boundary`."""
        members = self.state.members
        active = [member for member in members if member.status == "active" and not member.reached]
        # No reference to the list of tasks is kept: each holds a member's old state.
        outcomes = self._engine.run([self._task(member, boundary) for member in active], self._should_stop)
        for outcome in outcomes:
            members[outcome.member].take(outcome)
            self.state.cost.add(outcome)
        if not all(member.reached for member in active):
            raise Interrupted(f"stopped on the way to epoch {boundary} of {self._settings.epochs}")

    def _task(self, member: Member, boundary: int) -> Task:
        policies = tuple(self._policy(member, epoch) for epoch in range(member.epoch, boundary))
        return Task(member.id, member.state, policies, self._strategy.scores_at(boundary))

    def _policy(self, member: Member, epoch: int) -> BasePolicy:
        if member.vector is not None:
            return Policy.from_vector(member.vector)
        return self._beginnings[member.id][epoch]

    def _conclude_interval(self, boundary: int) -> None:
        """Scores, decisions and log once all members have reached `boundary`."""
        begun = time.monotonic()
        state = self.state
        scored = self._strategy.scores_at(boundary)
        fresh = [member for member in state.members if member.status == "diverged" and member.reached]
        state.diverged += len(fresh)
        for member in fresh:
            self._progress.note(f"Member {member.id} diverged by epoch {member.epoch}.")
        scores = [member.rank_score for member in state.members]
        if not any(member.status == "active" for member in state.members):
            raise RunError(self._diagnosis(boundary))
        exploits: list[Exploit] = []
        if self._strategy.decides and boundary < self._settings.epochs:
            exploits = self._decide(boundary, scores)
        self._log.boundary(state.members, exploits)
        for member in state.members:
            member.reached, member.lines = False, []
        for exploit in exploits:  # one after the other, as a lineage is read
            target, source = state.members[exploit.target], state.members[exploit.source]
            target.state, target.vector, target.status = source.state, exploit.new, "active"
            state.lineage.add(exploit)
        self._stop_hopeless(scores, {exploit.target for exploit in exploits})
        state.completed = boundary
        best = max(map(comparable, scores))
        if scored:
            state.history.append({"epoch": boundary, "scores": scores})
            moves = [(exploit.target, exploit.source) for exploit in exploits]
            self._progress.scores(boundary, scores, moves)
        self._progress.epoch(boundary, {"best": best} if scored else {})
        state.cost.controller_seconds += time.monotonic() - begun

    def _decide(self, boundary: int, scores: list[float | None]) -> list[Exploit]:
        """The strategy's decisions after `boundary`, as log entries; a function of scores and seed alone."""
        rng = numpy_generator(self._seed, self._strategy.name, self._role, boundary)
        vectors = [self._vector(member, boundary) for member in self.state.members]
        exploits = []
        for target, source, new in self._strategy.decide(scores, tuple(vectors), rng):
            old = vectors[source]
            if old is None:
                raise RunError(
                    f'Method "{self._strategy.name}" copied member {source}, whose policy is no PBA policy.'
                )
            exploits.append(Exploit(boundary, target, source, scores[target], scores[source], old, new))
            vectors[target] = new
        return exploits

    def _vector(self, member: Member, epoch: int) -> Vector | None:
        """The policy vector that the member would train under next."""
        if member.vector is not None:
            return member.vector
        return vector_of(self._beginnings[member.id], epoch)

    def _stop_hopeless(self, scores: list[float | None], targets: set[int]) -> None:
        """Members that are too far behind and were not overwritten wait until they are."""
        margin = self._settings.early_stop
        if margin is None or not self._strategy.decides:
            return
        best = max(map(comparable, scores))
        for member in self.state.members:
            behind = best - comparable(scores[member.id])
            if member.id not in targets and member.status == "active" and behind > margin:
                member.status = "stopped"

    def _diagnosis(self, boundary: int) -> str:
        members = self.state.members
        lines = [line for member in members for line in member.lines]
        seen = [line for line in lines if not math.isfinite(line.get("loss", 0.0))]
        first = f"; the loss was {seen[0]['loss']} in epoch {seen[0]['epoch']}" if seen else ""
        stopped = any(member.status == "stopped" for member in members)
        also = " or were stopped for being far behind" if stopped else ""
        return (
            f"All {len(members)} members diverged{also} by epoch {boundary}{first}: no weights are left to continue "
            "from. The usual cause is a learning rate that is too high for this network; lower it, or look at the "
            "images and at the distillation loss."
        )
