"""How a search stands: its members, what was decided, what it has cost. A checkpoint holds all of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from torch import Tensor

from rolewise.population.lineage import Exploit, Lineage, Vector
from rolewise.population.member import Outcome
from rolewise.runs import Checkpoint
from rolewise.trainer import State

Status = Literal["active", "diverged", "stopped"]
FORMAT_VERSION = 1


@dataclass
class Member:
    """One member.

    Args:
        id: 0-based.
        state: where its training stands; None at its beginning.
        vector: its policy; None as long as it follows what it began with.
        status: "diverged" and "stopped" ones wait, untrained, until they are overwritten.
        reached: whether it is through with the current interval.
        score: what it is ranked by at the next decision.
        lines: log entries of the current interval.
    """

    id: int
    state: State | None = None
    vector: Vector | None = None
    status: Status = "active"
    reached: bool = False
    score: float | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return 0 if self.state is None else int(self.state.info["epoch"])

    @property
    def name(self) -> str:
        """Of its tensors in a checkpoint."""
        return f"member-{self.id:02d}"

    def take(self, outcome: Outcome) -> None:
        """Goes on from where a worker brought it."""
        self.state = outcome.state
        self.lines += outcome.lines
        self.reached = outcome.finished
        if outcome.finished and outcome.score is not None:
            self.score = outcome.score
        if outcome.score == -math.inf:
            self.status = "diverged"

    def to_json(self) -> dict[str, Any]:
        """All but the tensors."""
        rest = {key: getattr(self, key) for key in ("id", "vector", "status", "reached", "score", "lines")}
        return {**rest, "info": None if self.state is None else self.state.info}


@dataclass
class Cost:
    """What a search has cost, over all of its sittings.

    Args:
        images: training images seen by all members.
        evaluations: of a member on all validation images.
        cpu_seconds: processor time of the workers.
        worker_seconds: time by the clock that workers were busy; on a GPU, its time.
        exchange_seconds: part of it spent on taking states and giving them back.
        controller_seconds: decisions and logs, without checkpoints.
        wall_seconds: by the clock.
    """

    images: int = 0
    evaluations: int = 0
    cpu_seconds: float = 0.0
    worker_seconds: float = 0.0
    exchange_seconds: float = 0.0
    controller_seconds: float = 0.0
    wall_seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Counts one task."""
        self.images += outcome.images
        self.evaluations += outcome.evaluations
        self.cpu_seconds += outcome.cpu_seconds
        self.worker_seconds += outcome.seconds
        self.exchange_seconds += outcome.exchange_seconds


@dataclass
class Standing:
    """A search after some whole intervals, and what its members have done since.

    Args:
        members: by id.
        lineage: decisions so far.
        completed: epochs of the last boundary.
        history: scores of every boundary, `epoch` and `scores`.
        diverged: how often a member did.
        cost: so far.
    """

    members: list[Member]
    lineage: Lineage
    completed: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    diverged: int = 0
    cost: Cost = field(default_factory=Cost)

    def to_json(self) -> dict[str, Any]:
        """All but the tensors."""
        return {
            "format_version": FORMAT_VERSION,
            "completed": self.completed,
            "members": [member.to_json() for member in self.members],
            "exploits": [asdict(exploit) for exploit in self.lineage.exploits],
            "history": self.history,
            "diverged": self.diverged,
            "cost": asdict(self.cost),
        }

    def tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The members' tensors, by member."""
        return {member.name: member.state.tensors for member in self.members if member.state is not None}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Stands as the checkpoint says."""
        saved = checkpoint.state
        self.completed, self.history, self.diverged = saved["completed"], saved["history"], saved["diverged"]
        known = {one.name for one in fields(Cost)}
        self.cost = Cost(**{name: value for name, value in saved["cost"].items() if name in known})
        self.lineage.exploits = [Exploit.from_json(line) for line in saved["exploits"]]
        for member, line in zip(self.members, saved["members"], strict=True):
            member.vector = None if line["vector"] is None else tuple(line["vector"])
            member.status, member.reached = line["status"], line["reached"]
            member.score, member.lines = line["score"], line["lines"]
            if line["info"] is not None:
                member.state = State(checkpoint.tensors(member.name), line["info"])
