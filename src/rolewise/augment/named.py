"""Schedules by one word, for settings, commands, controls and baselines: one table from a name to its maker."""

from collections.abc import Callable, Mapping
from pathlib import Path

from rolewise.augment.baselines import AUTOAUGMENT_BINS, AutoAugment, RandAugment, TrivialAugment
from rolewise.augment.policy import BasePolicy, Policy
from rolewise.augment.schedule import Schedule
from rolewise.augment.spaces import SPACES
from rolewise.errors import InputError, unknown

Maker = Callable[[int, int], Schedule]  # (epochs, seed) -> schedule
Published = AutoAugment | RandAugment | TrivialAugment

# The published policies: in the space that is meant where none is named, and by name in each that was published.
PUBLISHED: Mapping[str, Published] = {
    "autoaugment": AutoAugment(),
    "randaugment": RandAugment(),
    "trivialaugment": TrivialAugment(),
    **{f"autoaugment-{space}": AutoAugment(space) for space in AUTOAUGMENT_BINS},
    **{f"randaugment-{space}": RandAugment(space=space) for space in SPACES},
    **{f"trivialaugment-{space}": TrivialAugment(space) for space in SPACES},
}


def _constant(name: str, policy: BasePolicy) -> Maker:
    def make(epochs: int, seed: int) -> Schedule:
        return Schedule.constant(policy, epochs, provenance={"source": name})

    return make


def _makers() -> dict[str, Maker]:
    policies: dict[str, BasePolicy] = {"none": Policy.none(), **PUBLISHED}
    return {
        "random": lambda epochs, seed: Schedule.random(epochs, seed),
        **{name: _constant(name, policy) for name, policy in policies.items()},
    }


NAMED: Mapping[str, Maker] = _makers()


def named(name: str, epochs: int, *, seed: int = 0) -> Schedule:
    """The schedule of this name; see `Schedule.named`.

    Raises:
        InputError: an unknown name; the nearest is named.
    """
    if name not in NAMED:
        raise InputError(unknown("schedule", name, NAMED))
    return NAMED[name](epochs, seed)


def find_schedule(
    text: str | Path, epochs: int | None = None, *, length: int | None = None, seed: int = 0
) -> Schedule:
    """The schedule that a setting or an option names: a name of `NAMED`, or else a file.

    To name a file in the working directory that has the name of a schedule, write `./NAME`.

    Args:
        text: a name, or a path.
        epochs: length of a named schedule, and of the result: a file's schedule is stretched to it. None leaves a
            file's own length, and is an error for a name.
        length: length of the search behind a file that does not state it.
        seed: seed of "random".

    Raises:
        InputError: neither a name nor a readable schedule's file; a name without `epochs`.
    """
    if isinstance(text, str) and text in NAMED:
        if epochs is None:
            raise InputError(f"`epochs` must be given for the schedule {text}: how long it is to be.")
        return named(text, epochs, seed=seed)
    path = Path(text)
    if not path.exists():
        named_so = not path.suffix and path.name == str(text)
        names = f" {unknown('schedule', text, NAMED)}" if named_so else ""
        raise InputError(f"There is no file {text}.{names}")
    found = Schedule.load(path, length)
    return found if epochs is None or len(found) == epochs else found.stretch(epochs)
