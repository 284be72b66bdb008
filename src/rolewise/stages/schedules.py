"""Which schedule a training is under, and where it comes from."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from rolewise._roles import SCHEDULES
from rolewise.augment import RandAugment, Schedule, TrivialAugment
from rolewise.errors import InputError
from rolewise.runs import RunDirectory, file_digest, layout

NONE = "none"  # what a setting says where a role trains without a schedule
_POLICIES = {"trivialaugment": TrivialAugment(), "randaugment": RandAugment()}
WORDS = (NONE, *_POLICIES)  # what names a schedule without a file


@dataclass(frozen=True)
class Source:
    """A schedule and its source, as a row of results names it.

    Args:
        schedule: one policy an epoch; None is random crop and flip alone.
        name: "A_T" or "A_S" where this run searched it, "TrivialAugment" and the like, or a file's name; None
            without a schedule.
        sha256: of the file that it was read from.
    """

    schedule: Schedule | None = None
    name: str | None = None
    sha256: str | None = None

    @property
    def idle(self) -> bool:
        """Whether no epoch has an operation, so that the training is one without a schedule."""
        return self.schedule is None or self.schedule.idle

    @property
    def digest(self) -> str | None:
        """16 hexadecimal digits for the policies; None where there is no operation."""
        if self.schedule is None or self.idle:
            return None
        text = json.dumps([policy.to_json() for policy in self.schedule], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def stretched(self, epochs: int) -> "Source":
        """The schedule brought to the length of a training."""
        return self if self.schedule is None else replace(self, schedule=self.schedule.stretch(epochs))


def named_schedule(name: str) -> Source:
    """The schedule that a setting names: "none", "trivialaugment", "randaugment", or a file.

    Raises:
        InputError: no such file, or one that holds no schedule.
    """
    if name == NONE:
        return Source()
    if name in _POLICIES:
        policy = _POLICIES[name]
        return Source(Schedule.constant(policy, 1), type(policy).__name__)
    path = Path(name).expanduser()
    if not path.is_file():
        words = ", ".join(f'"{word}"' for word in WORDS)
        raise InputError(f"There is no file {name}: a schedule is a file, or one of {words}.")
    return Source(Schedule.load(path), path.name, file_digest(path))


def searched_schedule(run: RunDirectory, role: str, epochs: int) -> Source:
    """The schedule that this run searched for a role.

    Args:
        run: the run directory.
        role: "teacher" or "student".
        epochs: length of the search, where the file does not say it.

    Raises:
        InputError: it is not searched yet, or the file is not the one that the search wrote.
    """
    path = run.file(layout.schedule_file(role))
    if not path.exists():
        raise InputError(
            f"{run.path} has no {path.name} yet: search it with `rolewise search --role {role} --resume {run.path}`, "
            "or name one with `--schedule FILE`, or train without: `--schedule none`."
        )
    run.verify(path.name)
    return Source(Schedule.load(path, epochs), SCHEDULES[role], file_digest(path))
