"""The search algorithms by name. A new one is a file with a `Strategy` and a row here."""

from collections.abc import Sequence

from rolewise.augment import PUBLISHED, Schedule
from rolewise.errors import InputError, unknown
from rolewise.population.controls import (
    ConstantPolicies,
    GivenSchedules,
    RandomSchedules,
    published_control,
)
from rolewise.population.pba import PBA
from rolewise.population.strategy import Strategy
from rolewise.settings.search import SearchSettings

_ROWS: tuple[type[Strategy], ...] = (
    PBA,
    RandomSchedules,
    ConstantPolicies,
    *map(published_control, PUBLISHED),
    GivenSchedules,
)
METHODS: dict[str, type[Strategy]] = {strategy.name: strategy for strategy in _ROWS}


def named_methods() -> dict[str, type[Strategy]]:
    """The methods that a word chooses: all but "given", which a list of schedules chooses, and thus Python alone."""
    return {name: strategy for name, strategy in METHODS.items() if not strategy.takes_schedules}


def make_strategy(
    settings: SearchSettings,
    *,
    schedules: Sequence[Schedule] | None = None,
    warm_start: Schedule | None = None,
) -> Strategy:
    """The algorithm that `settings.method` names.

    Raises:
        InputError: an unknown name, or arguments that the algorithm has no use for.
    """
    if settings.method not in METHODS:
        raise InputError(unknown("method of a search", settings.method, named_methods()))
    return METHODS[settings.method](settings, schedules=schedules, warm_start=warm_start)
