"""What a search found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rolewise.augment import BasePolicy, Policy, Schedule
from rolewise.population.lineage import Lineage
from rolewise.population.pbt import ranking, sound
from rolewise.population.standing import Cost, Standing


@dataclass(frozen=True)
class SearchResult:
    """The schedule, and how it came about.

    Args:
        schedule: of the best member, traced through its lineage.
        best: its id; the lowest at equal scores.
        score: its validation accuracy at the end, a fraction. Only members can be compared by it: the teacher
            of a distillation may have seen the validation images.
        scores: of all members at the end; minus infinity for one that diverged or was stopped.
        lineage: all exploits.
        history: `epoch` and `scores` of every boundary at which members were evaluated.
        diverged: how often a member diverged.
        restarts: how many workers died and were replaced (of the last sitting).
        cost: what it has cost.
    """

    schedule: Schedule
    best: int
    score: float
    scores: tuple[float, ...]
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
            "scores": [score if sound(score) else None for score in self.scores],
            "overwritten": self.overwritten,
            "exploits": len(self.lineage.exploits),
            "ancestry": [[exploit.epoch, exploit.source, exploit.target] for exploit in ancestry],
            "diverged": self.diverged,
            "images": self.cost.images,
            "evaluations": self.cost.evaluations,
            "policies": policy_statistics(self.schedule),
        }


def conclude(
    standing: Standing, beginnings: list[Schedule], *, role: str, provenance: Mapping[str, Any], restarts: int
) -> SearchResult:
    """The result of a search that has come to its end."""
    scores = tuple(standing.history[-1]["scores"])
    best = ranking(scores)[0]
    segments: list[tuple[int, BasePolicy]] = list(beginnings[best].segments)
    if standing.lineage.exploits:
        segments = [(length, Policy.from_vector(vector)) for length, vector in standing.lineage.trace(best)]
    about = {**provenance, "member": best, "score": scores[best]}
    return SearchResult(
        schedule=Schedule(segments, role=role, provenance=about),
        best=best,
        score=scores[best],
        scores=scores,
        lineage=standing.lineage,
        history=standing.history,
        diverged=standing.diverged,
        restarts=restarts,
        cost=standing.cost,
    )


def policy_statistics(schedule: Schedule) -> dict[str, dict[str, float]]:
    """Means over epochs and slots, by op: `probability` (a fraction) and `magnitude` (levels, of slots that
    can fire).

    Policies without slots of that kind (RandAugment) are left out.
    """
    sums: dict[str, list[float]] = {}
    for epochs, policy in schedule.segments:
        for op, tenths, level in policy.settings if isinstance(policy, Policy) else ():
            entry = sums.setdefault(op, [0.0, 0.0, 0.0, 0.0])
            live = epochs if tenths else 0
            for place, value in enumerate((epochs, epochs * tenths / 10, live, live * level)):
                entry[place] += value
    return {
        op: {"probability": probability / count, "magnitude": magnitude / live if live else 0.0}
        for op, (count, probability, live, magnitude) in sums.items()
    }
