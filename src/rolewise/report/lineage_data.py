"""The numbers behind the picture of a search: who ran when, who was copied over whom, and whose history won."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from rolewise.errors import InputError
from rolewise.population.lineage import Branch, Exploit, Lineage

LEVELS = 7  # shades


@dataclass(frozen=True)
class Stretch:
    """A part of a member's track: epochs `start` to `end`, shade 0 (worst) to LEVELS - 1 (best), None if unknown."""

    member: int
    start: int
    end: int
    level: int | None


@dataclass(frozen=True)
class LineageData:
    """A search, ready to be drawn.

    Attributes:
        population, epochs: its size; of a search that is under way, `epochs` is what it is meant to reach.
        reached: epochs that all members completed.
        stretches: the members' tracks, shaded by the rank of the score at each stretch's end among all members then.
        copies: the exploits, and whether the best member's history runs through each.
        branches: the best member's history, first part first.
        best: the best member.
        spread: per evaluation (epochs, best, upper quartile, median, lower quartile, worst) of the scores.
    """

    population: int
    epochs: int
    reached: int
    stretches: tuple[Stretch, ...]
    copies: tuple[tuple[Exploit, bool], ...]
    branches: tuple[Branch, ...]
    best: int
    spread: tuple[tuple[float, ...], ...]

    @property
    def overwritten(self) -> bool:
        """Whether the best member's history has a copy in it; otherwise its schedule is the initial one."""
        return len(self.branches) > 1

    @property
    def rounds(self) -> int:
        """Epochs at which members were overwritten."""
        return len({exploit.epoch for exploit, _ in self.copies})


def lineage_data(
    role: str,
    metrics: Sequence[dict[str, Any]],
    lineage: Sequence[dict[str, Any]],
    *,
    population: int | None = None,
    epochs: int | None = None,
    best: int | None = None,
) -> LineageData | None:
    """A role's search from the lines of `metrics.jsonl` and `lineage.jsonl`; None if there are none of it.

    Args:
        population, epochs, best: values where they are known; otherwise taken from the lines.
    """
    scores = _scores(role, metrics)
    exploits = [Exploit.from_json(line) for line in lineage if line.get("role") == role]
    if not scores and not exploits:
        return None
    members = {member for row in scores.values() for member in row}
    members |= {member for exploit in exploits for member in (exploit.source, exploit.target)}
    reached = max([*scores, *(exploit.epoch for exploit in exploits)])
    population = max(population or 0, max(members) + 1)
    history = Lineage(population, max(epochs or 0, reached))
    for exploit in exploits:
        history.add(exploit)
    if best is None:
        last = scores[max(scores)] if scores else {}
        best = min(last, key=lambda member: (-_number(last[member]), member), default=0)
    if not 0 <= best < population:
        raise InputError(f"the best member is said to be {best}, of {population} members")
    through = set(map(id, history.ancestry(best)[1]))
    return LineageData(
        population=population,
        epochs=history.epochs,
        reached=reached,
        stretches=tuple(_stretches(population, reached, scores, exploits)),
        copies=tuple((exploit, id(exploit) in through) for exploit in exploits),
        branches=tuple(branch for branch in history.branches(best, reached) if branch.end > branch.start),
        best=best,
        spread=tuple(_spread(scores)),
    )


def _scores(role: str, metrics: Sequence[dict[str, Any]]) -> dict[int, dict[int, float | None]]:
    """Validation accuracy by epoch and member; later lines replace earlier ones."""
    scores: dict[int, dict[int, float | None]] = {}
    for line in metrics:
        if line.get("role") == role and line.get("member") is not None and line.get("split") == "validation":
            scores.setdefault(int(line["epoch"]), {})[int(line["member"])] = line.get("accuracy")
    return dict(sorted(scores.items()))


def _stretches(
    population: int, reached: int, scores: dict[int, dict[int, float | None]], exploits: Sequence[Exploit]
) -> list[Stretch]:
    bounds = sorted({0, reached, *scores, *(exploit.epoch for exploit in exploits)})
    found = []
    for member in range(population):
        levels = [(_level(member, scores.get(end, {})), start, end) for start, end in pairwise(bounds)]
        for level, group in groupby(levels, key=itemgetter(0)):
            parts = list(group)
            found.append(Stretch(member, parts[0][1], parts[-1][2], level))
    return found


def _level(member: int, row: dict[int, float | None]) -> int | None:
    """The shade of a member's rank among those that were evaluated with it."""
    if member not in row:
        return None
    below = sum(_number(score) < _number(row[member]) for score in row.values())
    return min(LEVELS - 1, below * LEVELS // max(1, len(row) - 1)) if len(row) > 1 else LEVELS - 1


def _spread(scores: dict[int, dict[int, float | None]]) -> list[tuple[float, ...]]:
    rows = []
    for epoch, row in scores.items():
        known = [score for score in row.values() if score is not None and math.isfinite(score)]
        if known:
            rows.append((float(epoch), *np.quantile(known, [1, 0.75, 0.5, 0.25, 0]).tolist()))
    return rows


def _number(score: float | None) -> float:
    return -math.inf if score is None or math.isnan(score) else score
