"""Which schedule a training is under, and where it comes from."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from rolewise._roles import SCHEDULES
from rolewise.augment import NAMED, Schedule, find_schedule
from rolewise.errors import InputError, check_path
from rolewise.runs import RunDirectory, file_digest, layout

NONE = "none"  # what a setting says where a role trains without a schedule


@dataclass(frozen=True)
class Source:
    """A schedule and its source, as a row of results names it.

    Args:
        schedule: one policy an epoch; None is random crop and flip alone.
        name: "A_T" or "A_S" where this run searched it, "TrivialAugment" and the like, or a file's name; None
            without a schedule.
        sha256: SHA-256 of the file that it was read from.
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


def source_name(setting: str) -> str | None:
    """How a row names the schedule of a setting: by its own name, or that of its file; None for none."""
    if setting == NONE:
        return None
    return setting if setting in NAMED else Path(setting).name


def named_schedule(setting: str, epochs: int, *, seed: int = 0) -> Source:
    """The schedule that a setting names: a name of `rolewise.augment.NAMED`, or a file.

    Args:
        setting: the name or the path; "none" is no schedule.
        epochs: length of a schedule that is known by name; a file's keeps its own.
        seed: seed of "random".

    Raises:
        InputError: neither a name nor a readable schedule's file.
    """
    if setting == NONE:
        return Source()
    if setting in NAMED:
        return Source(find_schedule(setting, epochs, seed=seed), setting)
    path = check_path("schedule", setting)
    return Source(find_schedule(str(path)), path.name, file_digest(path))


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
