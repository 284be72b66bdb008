"""The record of overwritten members, their sources and policies: any member's schedule is traced back from it.

Source: Ho et al., "Population Based Augmentation", ICML 2019.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rolewise.errors import InputError
from rolewise.population.pbt import VECTOR_LENGTH
from rolewise.runs import read_lineage

Vector = tuple[int, ...]
Segment = tuple[int, Vector]

ZEROS: Vector = (0,) * VECTOR_LENGTH


@dataclass(frozen=True)
class Exploit:
    """One decision: `target` continued from a copy of `source`.

    Args:
        epoch: epochs that the copied state had completed; `new` is used from this epoch (counted from 0) on.
        target, source: ids of the members.
        target_score, source_score: scores that ranked them; None for a member that had diverged.
        old: the policy vector that was explored, the source's.
        new: the explored policy vector.
    """

    epoch: int
    target: int
    source: int
    target_score: float | None
    source_score: float | None
    old: Vector
    new: Vector

    def to_json(self, role: str) -> dict[str, Any]:
        """The line of `lineage.jsonl`."""
        return {
            "role": role,
            "epoch": self.epoch,
            "target": self.target,
            "source": self.source,
            "target_score": self.target_score,
            "source_score": self.source_score,
            "old": list(self.old),
            "new": list(self.new),
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> "Exploit":
        """From a line of `lineage.jsonl`; keys that it does not know are ignored.

        Raises:
            InputError: a key is missing.
        """
        missing = [name for name in ("epoch", "target", "source", "old", "new") if name not in line]
        if missing:
            raise InputError(f"A lineage line must hold `{missing[0]}`, got the keys {sorted(line)}.")
        scores = line.get("target_score"), line.get("source_score")
        vectors = tuple(line["old"]), tuple(line["new"])
        return cls(int(line["epoch"]), int(line["target"]), int(line["source"]), *scores, *vectors)


@dataclass(frozen=True)
class Branch:
    """A part of a member's history: what `member` ran from epoch `start` to before `end`, under `vector`.

    `vector` is None where the member had not been overwritten yet: the policies that all members start with.
    """

    member: int
    start: int
    end: int
    vector: Vector | None


@dataclass
class Lineage:
    """The exploits of one search, in the order in which they happened.

    Args:
        population: number of members; ids are 0..population - 1.
        epochs: length of the search.
        initial: one vector for each epoch that members use until they are overwritten; None is no
            augmentation.
        exploits: exploits so far.
    """

    population: int
    epochs: int
    initial: tuple[Vector, ...] | None = None
    exploits: list[Exploit] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.initial is not None and len(self.initial) != self.epochs:
            raise InputError(
                f"`initial` must hold {self.epochs} vectors, one an epoch, got {len(self.initial)}."
            )

    def add(self, exploit: Exploit) -> None:
        """Appends a decision.

        Raises:
            InputError: an id that no member bears, or an epoch outside the search.
        """
        for name in ("target", "source"):
            member = getattr(exploit, name)
            if not 0 <= member < self.population:
                raise InputError(
                    f"`{name}` must be an integer from 0 to {self.population - 1}, got {member}."
                )
        if not 0 <= exploit.epoch <= self.epochs:
            raise InputError(f"`epoch` must be an integer from 0 to {self.epochs}, got {exploit.epoch}.")
        self.exploits.append(exploit)

    def ancestry(self, member: int, epochs: int | None = None) -> tuple[int, list[Exploit]]:
        """The member with which the history of `member` begins, and the exploits that lead from it, first one
        first.

        Traced from the end: the latest exploit of which the member was the target says what ran since its
        epoch; what ran before is the source's history, up to that line of the log.

        Args:
            member: member whose history is traced.
            epochs: end of the history; None is the end of the search.
        """
        end = self.epochs if epochs is None else epochs
        found: list[Exploit] = []
        for exploit in reversed(self.exploits):
            if exploit.target == member and exploit.epoch <= end:
                found.append(exploit)
                member, end = exploit.source, exploit.epoch
        return member, found[::-1]

    def branches(self, member: int, epochs: int | None = None) -> list[Branch]:
        """The history that ends in `member` after `epochs` (None: all), first part first, cut at its
        exploits."""
        root, exploits = self.ancestry(member, epochs)
        starts = [0, *(exploit.epoch for exploit in exploits)]
        ends = [*starts[1:], self.epochs if epochs is None else epochs]
        members = [root, *(exploit.target for exploit in exploits)]
        vectors = [None, *(exploit.new for exploit in exploits)]
        return [Branch(*part) for part in zip(members, starts, ends, vectors, strict=True)]

    def trace(self, member: int) -> list[Segment]:
        """(number of epochs, vector) of the history that ends in `member`; equal neighbors are one
        segment."""
        segments: list[Segment] = []
        for branch in self.branches(member):
            for length, vector in self._runs(branch):
                if length and segments and segments[-1][1] == vector:
                    segments[-1] = (segments[-1][0] + length, vector)
                elif length:
                    segments.append((length, vector))
        return segments

    def overwritten(self) -> set[int]:
        """Ids of the members that were a target at least once."""
        return {exploit.target for exploit in self.exploits}

    def tree(self) -> list[str]:
        """For each member, whose states it descends from: `7: 2 (57) > 8 (60) > 7`, with the epochs of the
        copies."""
        lines = []
        for member in range(self.population):
            parts = self.branches(member)
            steps = [f"{part.member} ({part.end})" for part in parts[:-1]]
            lines.append(f"{member}: " + " > ".join([*steps, str(parts[-1].member)]))
        return lines

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        role: str,
        population: int,
        epochs: int,
        initial: tuple[Vector, ...] | None = None,
    ) -> "Lineage":
        """From the lines of one role in a run directory's `lineage.jsonl` (the file, or the directory).

        Raises:
            InputError: a line that is no exploit of such a search.
        """
        lineage = cls(population, epochs, initial)
        for line in read_lineage(path):
            if line.get("role") == role:
                lineage.add(Exploit.from_json(line))
        return lineage

    def _runs(self, branch: Branch) -> Iterable[Segment]:
        if branch.vector is not None:
            yield branch.end - branch.start, branch.vector
        elif self.initial is None:
            yield branch.end - branch.start, ZEROS
        else:
            for vector in self.initial[branch.start : branch.end]:
                yield 1, vector
