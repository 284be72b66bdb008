"""Search state, as stored in a checkpoint: members, lineage, scores, cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from torch import Tensor

from rolewise.augment import Schedule
from rolewise.population.lineage import ZEROS, Exploit, Lineage, Vector
from rolewise.population.member import Outcome
from rolewise.population.strategy import Strategy, vector_of
from rolewise.runs import Checkpoint
from rolewise.trainer import State

Status = Literal["active", "diverged", "stopped"]
FORMAT_VERSION = 1


@dataclass
class Member:
    """One member.

    Args:
        id: 0-based number.
        state: state of its training; None at its beginning.
        vector: policy vector; None as long as it follows what it began with.
        status: "diverged" and "stopped" ones wait, untrained, until they are overwritten.
        reached: True once it has completed the current interval.
        score: validation accuracy by which it is ranked; None if it has none.
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
        """The name of its tensors in a checkpoint."""
        return f"member-{self.id:02d}"

    def take(self, outcome: Outcome) -> None:
        """Takes over the result of its task."""
        self.state = outcome.state
        self.lines += outcome.lines
        self.reached = outcome.finished
        if outcome.finished and (outcome.diverged or outcome.score is not None):
            self.score = outcome.score
        if outcome.diverged:
            self.status = "diverged"

    @property
    def rank_score(self) -> float | None:
        """The score at a boundary; None for a member that diverged or was stopped."""
        return self.score if self.status == "active" else None

    def to_json(self) -> dict[str, Any]:
        """All but the tensors."""
        rest = {key: getattr(self, key) for key in ("id", "vector", "status", "reached", "score", "lines")}
        return {**rest, "info": None if self.state is None else self.state.info}


@dataclass
class Cost:
    """Cost of a search, over all of its sessions.

    Args:
        images: number of training images seen by all members.
        evaluations: number of evaluations of a member on all validation images.
        cpu_seconds: processor time of the workers.
        worker_seconds: wall-clock time that workers were busy; on a GPU, its time.
        exchange_seconds: part of `worker_seconds` spent on loading and copying states.
        controller_seconds: time of decisions and logs, without checkpoints.
        wall_seconds: wall-clock time.
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
class SearchState:
    """A search after some whole intervals, and what its members have done since.

    Args:
        members: members by id.
        lineage: decisions so far.
        completed: epochs of the last boundary.
        history: `epoch` and `scores` of every boundary at which members were scored; None for no score.
        diverged: number of times that a member diverged.
        cost: cost so far.
    """

    members: list[Member]
    lineage: Lineage
    completed: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    diverged: int = 0
    cost: Cost = field(default_factory=Cost)

    @classmethod
    def fresh(cls, strategy: Strategy, beginnings: Sequence[Schedule]) -> "SearchState":
        """The state before the first interval."""
        population, epochs = strategy.settings.population, strategy.settings.epochs
        lineage = Lineage(population, epochs, common_vectors(strategy, beginnings))
        return cls([Member(number) for number in range(population)], lineage)

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
        """The members' tensors, by member, on the CPU."""
        copies: dict[int, State] = {}  # several members may refer to one state
        for member in self.members:
            if member.state is not None and id(member.state) not in copies:
                copies[id(member.state)] = member.state.host()
        return {
            member.name: copies[id(member.state)].tensors
            for member in self.members
            if member.state is not None
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes over what a checkpoint holds."""
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


def common_vectors(strategy: Strategy, beginnings: Sequence[Schedule]) -> tuple[Vector, ...] | None:
    """The vector of each epoch that all members follow until they are overwritten; None for no augmentation.

    None also where members begin with different schedules, or with policies that no vector describes.
    """
    first = beginnings[0]
    if not strategy.decides or any(schedule != first for schedule in beginnings):
        return None
    vectors = [vector_of(first, epoch) for epoch in range(len(first))]
    known = tuple(vector for vector in vectors if vector is not None)
    return known if len(known) == len(vectors) and set(known) != {ZEROS} else None
