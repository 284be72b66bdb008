"""The search algorithms by name. A new one is a file with a `Strategy` and a row here."""

from collections.abc import Sequence

from rolewise.augment import Schedule
from rolewise.errors import InputError, unknown
from rolewise.population.controls import (
    ConstantPolicies,
    GivenSchedules,
    PublishedAutoAugment,
    PublishedTrivialAugment,
    RandAugmentGrid,
    RandomSchedules,
)
from rolewise.population.pba import PBA
from rolewise.population.strategy import Strategy
from rolewise.settings.search import SearchSettings

METHODS: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (
        PBA,
        RandomSchedules,
        ConstantPolicies,
        RandAugmentGrid,
        PublishedAutoAugment,
        PublishedTrivialAugment,
        GivenSchedules,
    )
}


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
        raise InputError(unknown("method of a search", settings.method, METHODS))
    return METHODS[settings.method](settings, schedules=schedules, warm_start=warm_start)
