"""The numbers of a search, checked before any work."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rolewise.augment import Policy, Schedule
from rolewise.errors import InputError, InputTypeError, check_integer
from rolewise.population.pbt import (
    POPULATION_MAX,
    POPULATION_MIN,
    QUANTILE,
    RESAMPLE,
    boundaries,
    check_quantile,
    check_resample,
)

EARLY_STOP_MARGIN = 0.1
Method = str | Sequence[Schedule]


@dataclass(frozen=True)
class SearchOptions:
    """What a search does, whatever it is done on.

    Args:
        population: members, 4 to 64.
        epochs: length of each member's training.
        interval: epochs from one exploit to the next; at most `epochs`.
        quantile: share that is overwritten, and share that is copied from, above 0 and at most 0.5.
        resample: probability that exploring draws an entry anew, 0 to 1.
        early_stop: None, or how far (accuracy, a fraction) behind the best a member may be and still be
            trained; one that is further behind waits, untrained, until it is overwritten. True takes 0.1.
        method: "pbt", a control ("random", "constant", "randaugment"), or one schedule for each member to
            compare.
        warm_start: what members follow until they are overwritten; None is no augmentation.

    Raises:
        InputError: anything out of range, or not fitting together.
    """

    population: int = 16
    epochs: int = 200
    interval: int = 3
    quantile: float = QUANTILE
    resample: float = RESAMPLE
    early_stop: float | None = None
    method: Method = "pbt"
    warm_start: Schedule | None = None

    def __post_init__(self) -> None:
        check_integer("population", self.population, POPULATION_MIN, POPULATION_MAX)
        check_integer("epochs", self.epochs, 1)
        check_integer("interval", self.interval, 1)
        if self.interval > self.epochs:
            raise InputError(
                f"`interval` must be at most `epochs` ({self.epochs}), got {self.interval}: "
                "the search would end before its first exploit."
            )
        check_quantile(self.quantile)
        check_resample(self.resample)
        self._check_early_stop()
        if self.warm_start is not None:
            self._check_warm_start(self.warm_start)

    def _check_early_stop(self) -> None:
        margin = self.early_stop
        if isinstance(margin, bool):
            object.__setattr__(self, "early_stop", EARLY_STOP_MARGIN if margin else None)
        elif margin is not None and not (math.isfinite(margin) and 0 < margin <= 1):
            raise InputError(f"`early_stop` must be a fraction above 0 and at most 1, or None, got {margin}.")

    def _check_warm_start(self, schedule: Schedule) -> None:
        if not isinstance(schedule, Schedule):
            raise InputTypeError(f"`warm_start` must be a Schedule or None, got {type(schedule).__name__}.")
        if self.method != "pbt":
            raise InputError('`warm_start` belongs to method="pbt": controls have policies of their own.')
        if len(schedule) != self.epochs:
            raise InputError(
                f"`warm_start` holds {len(schedule)} epochs, but the search has {self.epochs}: "
                f"warm_start.stretch({self.epochs}) makes it fit."
            )
        for epoch, policy in enumerate(schedule):
            if not isinstance(policy, Policy):
                raise InputError(
                    f"`warm_start` must hold PBA policies, which can be explored, got {type(policy).__name__} "
                    f"in epoch {epoch}."
                )
            policy.to_vector()

    @property
    def initial(self) -> tuple[tuple[int, ...], ...] | None:
        """The warm start's vector of each epoch; None without one."""
        if self.warm_start is None:
            return None
        vectors = [policy.to_vector() for policy in self.warm_start if isinstance(policy, Policy)]
        return tuple(tuple(vector) for vector in vectors)

    @property
    def exploits(self) -> bool:
        """Whether members are overwritten on the way; controls run to the end by themselves."""
        return self.method == "pbt"

    @property
    def boundaries(self) -> list[int]:
        """Completed epochs at which all members meet."""
        return boundaries(self.epochs, self.interval)

    def evaluates(self, boundary: int) -> bool:
        """Whether anyone reads the scores there: without exploits, only those at the end are."""
        return self.exploits or boundary == self.epochs

    def to_json(self) -> dict[str, Any]:
        """As JSON, schedules by their digests."""
        fields = {key: value for key, value in vars(self).items() if key not in ("method", "warm_start")}
        method = self.method
        named = method if isinstance(method, str) else [schedule_digest(schedule) for schedule in method]
        warm = None if self.warm_start is None else schedule_digest(self.warm_start)
        return {"method": named, **fields, "warm_start": warm}


def schedule_digest(schedule: Schedule) -> str:
    """A short digest of a schedule's policies."""
    return digest_json([[epochs, policy.to_json()] for epochs, policy in schedule.segments])


def digest_json(value: Any) -> str:
    """16 hexadecimal digits for a JSON value."""
    text = json.dumps(value, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
