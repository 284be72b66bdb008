"""The result of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rolewise.augment import BasePolicy, Policy, Schedule
from rolewise.augment.compare import op_means
from rolewise.population.lineage import Lineage
from rolewise.population.pbt import comparable, ranking
from rolewise.population.state import Cost, SearchState


@dataclass(frozen=True)
class SearchResult:
    """A schedule and where it comes from.

    Args:
        schedule: schedule of the best member, traced through its lineage.
        best: id of the best member; the lowest at equal scores.
        score: its validation accuracy at the end, a fraction. Members can be compared by it, nothing else: the
            teacher of a distillation may have seen the validation images.
        scores: scores of all members at the end; None for one that diverged or was stopped.
        lineage: all exploits.
        history: `epoch` and `scores` of every boundary at which members were evaluated.
        diverged: number of times that a member diverged.
        restarts: number of workers that died and were replaced (in the last session).
        cost: cost over all sessions.
    """

    schedule: Schedule
    best: int
    score: float
    scores: tuple[float | None, ...]
    lineage: Lineage = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)
    diverged: int
    restarts: int
    cost: Cost

    @property
    def images(self) -> int:
        """Training images seen by all members."""
        return self.cost.images

    @property
    def overwritten(self) -> bool:
        """Whether the best member's history holds an exploit; if not, the schedule is what all members began
        with."""
        return bool(self.lineage.ancestry(self.best)[1])

    def summary(self) -> dict[str, Any]:
        """As JSON, without times: the same search always gives the same."""
        _, ancestry = self.lineage.ancestry(self.best)
        return {
            "best": self.best,
            "score": self.score,
            "scores": list(self.scores),
            "overwritten": self.overwritten,
            "exploits": len(self.lineage.exploits),
            "ancestry": [[exploit.epoch, exploit.source, exploit.target] for exploit in ancestry],
            "diverged": self.diverged,
            "images": self.cost.images,
            "evaluations": self.cost.evaluations,
            "policies": policy_statistics(self.schedule),
        }


def conclude(
    state: SearchState,
    beginnings: Sequence[Schedule],
    *,
    role: str,
    provenance: Mapping[str, Any],
    restarts: int,
) -> SearchResult:
    """The result of a search that has come to its end."""
    scores = tuple(state.history[-1]["scores"])
    best = ranking(scores)[0]
    score = comparable(scores[best])
    about = {**provenance, "member": best, "score": score}
    if state.lineage.exploits:
        policies = _policies(state.lineage, beginnings, best)
        schedule = Schedule.from_policies(policies, role=role, provenance=about)
    else:
        schedule = Schedule(beginnings[best].segments, role=role, provenance=about)
    return SearchResult(
        schedule=schedule,
        best=best,
        score=score,
        scores=scores,
        lineage=state.lineage,
        history=state.history,
        diverged=state.diverged,
        restarts=restarts,
        cost=state.cost,
    )


def _policies(lineage: Lineage, beginnings: Sequence[Schedule], member: int) -> list[BasePolicy]:
    """The policy of each epoch in the history that ends in `member`."""
    found: list[BasePolicy] = []
    for branch in lineage.branches(member):
        if branch.vector is None:
            found += beginnings[branch.member][branch.start : branch.end]
        else:
            found += [Policy.from_vector(branch.vector)] * (branch.end - branch.start)
    return found


def policy_statistics(schedule: Schedule) -> dict[str, dict[str, float]]:
    """Means over epochs and slots, by op: `probability` (a fraction) and `magnitude` (levels, of slots that
    can fire).

    Policies without slots of that kind (RandAugment) are left out.
    """
    return {
        op: {"probability": probability, "magnitude": magnitude}
        for op, (probability, magnitude) in op_means(schedule).items()
    }
