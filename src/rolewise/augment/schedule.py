"""A schedule: one policy for each epoch of a training run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, overload

from rolewise._roles import ROLES
from rolewise.augment.ops import LEVELS, PUBLISHED
from rolewise.augment.policy import COPIES, TENTHS, BasePolicy, Policy
from rolewise.errors import InputError, InputTypeError, check_integer
from rolewise.seeds import numpy_generator

Segment = tuple[int, BasePolicy]
MAX_EPOCHS = 100_000


class Schedule(Sequence[BasePolicy]):
    """One policy per epoch, as segments of (number of epochs, policy). Immutable.

    Args:
        segments: each at least one epoch long.
        role: "teacher", "student", or None where that is not known.
        provenance: origin, as JSON values by name (the data set, the run, the score, the file). No
            times of day.

    Raises:
        InputError: no segment, lengths below 1, an unknown role.
        InputTypeError: a segment whose policy is none.
    """

    def __init__(
        self,
        segments: Iterable[Segment],
        *,
        role: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        kept = []
        for number, (epochs, policy) in enumerate(segments):
            if not isinstance(policy, BasePolicy):
                raise InputTypeError(f"`segments[{number}]` must hold a policy, got {type(policy).__name__}.")
            kept.append((check_integer(f"segments[{number}] epochs", epochs, 1, MAX_EPOCHS), policy))
        if not kept:
            raise InputError("`segments` must hold at least one segment, got none.")
        if (total := sum(epochs for epochs, _ in kept)) > MAX_EPOCHS:
            raise InputError(f"A schedule must be at most {MAX_EPOCHS} epochs long, got {total}.")
        if role is not None and role not in ROLES:
            raise InputError(f'`role` must be "teacher", "student" or None, got {role!r}.')
        self._segments: tuple[Segment, ...] = tuple(kept)
        self.role = role
        self.provenance: dict[str, Any] = dict(provenance or {})
        self._policies = [policy for epochs, policy in kept for _ in range(epochs)]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """(number of epochs, policy), in order."""
        return self._segments

    def __len__(self) -> int:
        return len(self._policies)

    @overload
    def __getitem__(self, epoch: int) -> BasePolicy: ...
    @overload
    def __getitem__(self, epoch: slice) -> list[BasePolicy]: ...
    def __getitem__(self, epoch: int | slice) -> BasePolicy | list[BasePolicy]:
        """The policy of an epoch, counted from 0."""
        if isinstance(epoch, slice):
            return self._policies[epoch]
        if isinstance(epoch, bool) or not hasattr(epoch, "__index__"):
            raise InputTypeError(f"`epoch` must be an integer, got {epoch!r}.")
        if not 0 <= epoch < len(self):
            raise EpochError(
                f"`epoch` must be an integer from 0 to {len(self) - 1}, got {int(epoch)}: this schedule is "
                f"{len(self)} epochs long; .stretch(epochs) makes another length of it."
            )
        return self._policies[epoch]

    def __iter__(self) -> Iterator[BasePolicy]:
        return iter(self._policies)

    def __eq__(self, other: object) -> bool:
        """Whether the same policies are used in the same epochs by the same role; provenance does not count."""
        if not isinstance(other, Schedule):
            return NotImplemented
        return self.role == other.role and self._policies == other._policies

    @property
    def idle(self) -> bool:
        """Whether no epoch has an operation that can occur: crop and flip alone."""
        return all(
            isinstance(policy, Policy) and not any(probability for _, probability, _ in policy.settings)
            for _, policy in self._segments
        )

    def __hash__(self) -> int:
        return hash((self.role, tuple(self._policies)))

    def __repr__(self) -> str:
        lengths = ", ".join(str(epochs) for epochs, _ in self._segments[:8])
        more = ", ..." if len(self._segments) > 8 else ""
        role = "" if self.role is None else f", role={self.role!r}"
        return f"Schedule({len(self)} epochs in segments of {lengths}{more}{role})"

    @classmethod
    def from_policies(cls, policies: Iterable[BasePolicy], **about: Any) -> "Schedule":
        """From one policy per epoch; equal neighbors become one segment. `about`: role and provenance."""
        return cls([(len(list(group)), policy) for policy, group in groupby(policies)], **about)

    @classmethod
    def none(cls, epochs: int) -> "Schedule":
        """No augmentation beyond crop and flip."""
        return cls.constant(Policy.none(), epochs, provenance={"source": "none"})

    @classmethod
    def constant(cls, policy: BasePolicy, epochs: int, **about: Any) -> "Schedule":
        """The same policy in every epoch."""
        return cls([(check_integer("epochs", epochs, 1), policy)], **about)

    @classmethod
    def random(cls, epochs: int, seed: int, interval: int = 3) -> "Schedule":
        """Every `interval` epochs a new vector, each entry uniform over its range: what a search must beat."""
        check_integer("epochs", epochs, 1)
        check_integer("interval", interval, 1)
        rng = numpy_generator(seed, "random schedule")
        highs = [TENTHS + 1, LEVELS] * (COPIES * len(PUBLISHED))
        segments = []
        for start in range(0, epochs, interval):
            vector = rng.integers(0, highs)
            segments.append((min(interval, epochs - start), Policy.from_vector(vector)))
        return cls(segments, provenance={"source": "random", "seed": int(seed), "interval": interval})

    def shuffled(self, seed: int) -> "Schedule":
        """The same policies, each for as many epochs, in another order: a control for the order's worth."""
        order = numpy_generator(seed, "shuffled schedule").permutation(len(self))
        provenance = {**self.provenance, "shuffled": int(seed)}
        return Schedule.from_policies(
            (self._policies[e] for e in order), role=self.role, provenance=provenance
        )

    def stretch(self, epochs: int) -> "Schedule":
        """The schedule stretched to another length: each segment floor(length * r) epochs, r = epochs /
        len(self).

        What the rounding leaves over goes to the last policy; segments that round to nothing vanish.
        """
        check_integer("epochs", epochs, 1)
        whole = len(self)
        segments = [(length * epochs // whole, policy) for length, policy in self._segments]
        last, policy = segments[-1]
        segments[-1] = (last + epochs - sum(length for length, _ in segments), policy)
        provenance = {
            **self.provenance,
            "stretched": [*self.provenance.get("stretched", []), [whole, epochs]],
        }
        return Schedule([s for s in segments if s[0] > 0], role=self.role, provenance=provenance)

    @classmethod
    def named(cls, name: str, epochs: int, *, seed: int = 0) -> "Schedule":
        """A published policy in every epoch, or a control: "autoaugment", "trivialaugment", "random", ...

        Args:
            name: a key of `rolewise.augment.NAMED`.
            epochs: length.
            seed: seed of "random".

        Raises:
            InputError: an unknown name; the nearest is named.
        """
        from rolewise.augment.named import named  # the table needs the class

        return named(name, epochs, seed=seed)

    @classmethod
    def load(
        cls,
        path: str | Path,
        epochs: int | None = None,
        *,
        ops: Sequence[str] | None = None,
        trial: str | int | None = None,
    ) -> "Schedule":
        """From a file: our JSON, a PBA `.txt` log, the role-wise authors' logs, Ray's own PBT logs.

        Args:
            path: the file, at most 1 MiB.
            epochs: length of the search, where the file does not state it.
            ops: names of the ops in the order of the file's bare vectors; None reads them in the published
                order, and the provenance says so. Files that are known to use another space are refused
                without it.
            trial: trial whose lineage is read from a log of all trials (`pbt_global.txt`).

        Raises:
            InputError: a file that is missing, too large, or wrong; all faults at once, with file and line.
        """
        from rolewise.augment.files import load_schedule  # pydantic: not before it is needed

        return load_schedule(Path(path), epochs, ops=ops, trial=trial)

    def save(self, path: str | Path, *, form: str = "rolewise") -> None:
        """Writes the schedule to a file.

        Args:
            path: path to write; an existing file is replaced as a whole.
            form: "rolewise" for our JSON (the same schedule gives the same bytes), "pba" for PBA's text log (vectors
                alone: no role, no provenance, no length).

        Raises:
            InputError: a place that cannot be written; with "pba", a policy without a vector.
        """
        from rolewise.augment.files import save_schedule

        save_schedule(self, Path(path), form)


class EpochError(InputError, IndexError):
    """An epoch that a schedule does not have."""
