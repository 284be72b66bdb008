"""The numbers of a search: one definition for the settings file, `rw.search`, its estimate and the command line."""

from typing import Annotated, Literal, TypedDict

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from rolewise.settings.base import Integer, Number, settings

EngineName = Literal["local", "ray"]

POPULATION_MIN, POPULATION_MAX = 4, 64
QUANTILE = 0.25
RESAMPLE = 0.2
EARLY_STOP_MARGIN = 0.1


def _margin(value: object) -> object:
    """An early stop as one type: True takes the usual margin, False switches it off."""
    if isinstance(value, bool):
        return EARLY_STOP_MARGIN if value else None
    return value


@settings
class SearchSettings:
    """What a search does, and on what; the numbers are the role-wise release's (Ho et al., ICML 2019, for PBA).

    The result depends on all fields but `PLACE`.
    """

    population: Integer = Field(
        default=16, ge=POPULATION_MIN, le=POPULATION_MAX, description="number of members"
    )
    epochs: Integer = Field(
        default=200, ge=1, description="length of each member's training, and of the schedule"
    )
    interval: Integer = Field(
        default=3, ge=1, validate_default=True, description="epochs between two decisions; at most `epochs`"
    )
    quantile: Number = Field(
        default=QUANTILE, gt=0, le=0.5, description="share that is overwritten, and share that is copied from"
    )
    resample: Number = Field(
        default=RESAMPLE, ge=0, le=1, description="probability that exploring redraws an entry"
    )
    early_stop: Annotated[Number | None, BeforeValidator(_margin)] = Field(
        default=None,
        gt=0,
        le=1,
        description="accuracy (a fraction) that a member may be behind the best and still be trained; one that is "
        f"further behind waits until it is overwritten; true takes {EARLY_STOP_MARGIN}",
    )
    method: str = Field(
        default="pbt",
        description="`pbt`, or a control of equal budget such as `random` or `trivialaugment-wide`; `rolewise list "
        "methods` has the names (in Python: rolewise.population.METHODS)",
    )
    engine: EngineName = Field(default="local", description="engine that trains the members")
    ray_address: str | None = Field(
        default=None, description="address of a running Ray cluster; none starts Ray on this machine"
    )
    gpus_per_member: Number = Field(default=0.0, ge=0, description="share of a GPU for each member (Ray)")

    lanes: Integer = Field(
        default=2, ge=1, le=16, description="members that one process trains at once on a GPU"
    )

    @field_validator("interval")
    @classmethod
    def _within_epochs(cls, interval: int, info: ValidationInfo) -> int:
        epochs = info.data.get("epochs", interval)  # missing where it is wrong itself
        if interval > epochs:
            raise PydanticCustomError(
                "interval",
                "must be at most `epochs` ({epochs}), as the search would end before its first decision",
                {"epochs": epochs},
            )
        return interval

    @field_validator("ray_address", "gpus_per_member")
    @classmethod
    def _of_the_ray_engine(cls, value: str | float | None, info: ValidationInfo) -> str | float | None:
        if value and info.data.get("engine", "ray") != "ray":
            raise PydanticCustomError("engine", 'belongs to the Ray engine, which engine="ray" names')
        return value


PLACE = ("engine", "ray_address", "gpus_per_member", "lanes")


class SearchOptions(TypedDict, total=False):
    """The fields of `SearchSettings` that `rw.search` takes as further arguments."""

    quantile: float
    resample: float
    early_stop: float | bool | None
    engine: EngineName
    ray_address: str | None
    gpus_per_member: float
    lanes: int
