"""The arguments of `rolewise.search`: their types, and the plan that they describe."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from rolewise.augment import Schedule
from rolewise.data import Data
from rolewise.population.plan import Plan, make_plan
from rolewise.progress import Progress
from rolewise.settings import TrainOptions, check_names, field_names
from rolewise.settings.search import SearchOptions, SearchSettings
from rolewise.trainer import TrainSettings

_PLAN = ("objective", "init", "seed", "role", "warm_start")  # passed on to `make_plan` as they are


class SearchArguments(SearchOptions, TrainOptions, total=False):
    """The keyword arguments of `rolewise.search` that its overloads do not spell out; described there."""

    resume: bool
    role: str | None
    settings: TrainSettings | None
    train_images: int | None
    validation_images: int | None
    method: str | Sequence[Schedule]
    warm_start: Schedule | None
    workers: int | None
    checkpoint_seconds: float
    progress: Progress | None
    should_stop: Callable[[], bool] | None


def plan_of(
    search: Callable[..., Any],
    model: nn.Module,
    data: Data,
    arguments: Mapping[str, Any],
    *,
    prepare: bool = False,
) -> Plan:
    """The plan that keyword arguments of `search` describe; those that only a run needs have no effect.

    Args:
        search: `rolewise.search`, whose own names an error lists.
        model, data: network and data set.
        arguments: keyword arguments by name; left out ones have their default.
        prepare: see `make_plan`.

    Raises:
        InputError: a name that `search` does not know, or a value that cannot be.
    """
    check_names(arguments, search, SearchSettings, TrainSettings)
    method = arguments.get("method", "pbt")
    schedules = None if isinstance(method, str) else list(method)
    numbers = {name: arguments[name] for name in field_names(SearchSettings) if name in arguments}
    numbers["method"] = method if schedules is None else "given"
    training: Any = {name: arguments[name] for name in TrainOptions.__annotations__ if name in arguments}
    return make_plan(
        model,
        data,
        SearchSettings(**numbers),
        training=arguments.get("settings"),
        changes=training,
        prepare=prepare,
        images=(arguments.get("train_images"), arguments.get("validation_images")),
        schedules=schedules,
        **{name: arguments[name] for name in _PLAN if name in arguments},
    )
