"""What a search algorithm is: what members begin with, and what happens to them at each boundary."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from rolewise.augment import Policy, Schedule
from rolewise.errors import InputError, InputTypeError
from rolewise.population.pbt import boundaries
from rolewise.settings.search import SearchSettings

Vector = tuple[int, ...]


class Decision(NamedTuple):
    """Member `target` continues from a copy of member `source`, under the policy `vector`.

    With `target` equal to `source` the member keeps its own weights and only its policy changes.
    """

    target: int
    source: int
    vector: Vector


class Strategy(ABC):
    """A search algorithm. All of its choices are pure functions of the settings, the scores and a seed.

    Args:
        settings: numbers of the search.
        schedules: schedules that the caller gives, one for each member; None where the algorithm makes its own.
        warm_start: schedule that all members follow until they are overwritten; None is no augmentation.

    Raises:
        InputError: `schedules` or a `warm_start` that the algorithm has no use for.
    """

    name: ClassVar[str]
    decides: ClassVar[bool] = True  # whether `decide` is called; if not, members are scored at the end alone
    warm_starts: ClassVar[bool] = False  # whether `warm_start` is used
    takes_schedules: ClassVar[bool] = False  # whether `schedules` are needed

    def __init__(
        self,
        settings: SearchSettings,
        *,
        schedules: Sequence[Schedule] | None = None,
        warm_start: Schedule | None = None,
    ) -> None:
        if (schedules is None) == self.takes_schedules:
            way = "takes schedules of yours" if self.takes_schedules else "makes its own schedules"
            raise InputError(
                f'`method` "{self.name}" {way}: give `method` a list of schedules, one for each member, '
                "or the name of another method."
            )
        if warm_start is not None:
            self._check_warm_start(warm_start, settings.epochs)
        self.settings, self.schedules, self.warm_start = settings, schedules, warm_start

    @abstractmethod
    def beginnings(self, seed: int, role: str) -> list[Schedule]:
        """The schedule that each member follows until it is overwritten; without decisions, to the end.

        Args:
            seed: base seed of the search.
            role: "teacher" or "student"; with the seed the key of every random draw.
        """

    @abstractmethod
    def decide(
        self, scores: Sequence[float | None], vectors: Sequence[Vector | None], rng: np.random.Generator
    ) -> list[Decision]:
        """What happens to the members at a boundary.

        Decisions take effect in their order: a source that was a target before gives what it has become.

        Args:
            scores: validation accuracy by member, a fraction; None for one that diverged or was stopped.
            vectors: policy vector that each member would train under next; None where it is no PBA policy.
            rng: source of all chance, keyed by seed, role and boundary.
        """

    @property
    def boundaries(self) -> list[int]:
        """Completed epochs at which all members meet."""
        return boundaries(self.settings.epochs, self.settings.interval)

    def scores_at(self, boundary: int) -> bool:
        """Whether members are scored at `boundary`: where nothing is decided, only the last scores are read."""
        return self.decides or boundary == self.settings.epochs

    def _check_warm_start(self, schedule: Schedule, epochs: int) -> None:
        if not isinstance(schedule, Schedule):
            raise InputTypeError(f"`warm_start` must be a Schedule or None, got {type(schedule).__name__}.")
        if not self.warm_starts:
            raise InputError(f'`warm_start` belongs to method="pbt": "{self.name}" has policies of its own.')
        if len(schedule) != epochs:
            raise InputError(
                f"`warm_start` holds {len(schedule)} epochs, but the search has {epochs}: "
                f"warm_start.stretch({epochs}) makes it fit."
            )
        for epoch, policy in enumerate(schedule):
            if not isinstance(policy, Policy):
                raise InputError(
                    f"`warm_start` must hold PBA policies, which can be explored, got {type(policy).__name__} "
                    f"in epoch {epoch}."
                )
            policy.to_vector()


def vector_of(schedule: Schedule, epoch: int) -> Vector | None:
    """The policy vector of an epoch, None where the policy has none."""
    policy = schedule[epoch]
    return tuple(policy.to_vector()) if isinstance(policy, Policy) else None
