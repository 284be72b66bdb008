"""The forms of what a run directory records: lines of its logs, complete stages, results, inputs, own code.

A file that was damaged or edited is refused where it is read, by name and with every fault, instead of wherever a value
of the wrong kind is first used. Further keys are allowed everywhere and stay.
"""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rolewise.errors import InputError
from rolewise.runs.files import load_json

T = TypeVar("T")
_FAULTS = 5  # how many of them a message lists
Role = Literal["teacher", "student"]


class _Form(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Hardware(_Form):
    """The machine that a run was made on."""

    cpu: str | None = None
    cores: int | None = None
    gpus: list[str] | None = None


class Made(_Form):
    """Versions, commit and hardware that a run was made with."""

    versions: dict[str, str] | None = None
    commit: str | None = None
    hardware: Hardware | None = None


class ConfigFile(_Form):
    """`config.json`; the settings themselves are checked by whoever reads them."""

    format_version: int
    config: dict[str, Any]
    environment: Made


class MetricsLine(_Form):
    """A line of `metrics.jsonl`. A figure that is NaN or infinite is null."""

    stage: str | None = None
    role: str | None = None
    member: int | None = None
    epoch: int | None = Field(None, ge=0)
    split: str | None = None
    accuracy: float | None = None
    loss: float | None = None


class LineageLine(_Form):
    """A line of `lineage.jsonl`: one exploit."""

    role: str | None = None
    epoch: int | None = Field(None, ge=0)
    target: int | None = None
    source: int | None = None
    target_score: float | None = None
    source_score: float | None = None
    old: list[int] = []
    new: list[int] = []


class Stage(_Form):
    """A complete stage in `stages.json`."""

    info: dict[str, Any]
    marks: dict[str, int]
    files: dict[str, str] = {}


class Row(_Form):
    """A row of the result table."""

    key: str
    name: str
    role: Role
    network: str | None = None
    weight_bits: int
    act_bits: int
    quantizer: str | None = None
    init: str | None = None
    kd: str | None = None
    schedule: str | None = None
    schedule_sha256: str | None = None
    no_operation: bool = False
    accuracy: float = Field(ge=0, le=1)
    accuracy_batch_statistics: float | None = Field(None, ge=0, le=1)
    accuracy_averaged: float | None = Field(None, ge=0, le=1)
    accuracy_best_epoch: float | None = Field(None, ge=0, le=1)
    best_epoch: int | None = Field(None, ge=1)
    loss: float | None = None
    precision: str | None = None
    n: int = Field(ge=1)
    epochs: int = Field(ge=0)
    seed: int
    baseline: bool = False
    training: str | None = None
    same_as: str | None = None


class Cost(_Form):
    """What a stage took."""

    stage: str
    seconds: float = Field(ge=0)
    cpu_seconds: float | None = None
    images: int | None = None
    finished: bool = True


class Search(_Form):
    """What `results.json` says of a search."""

    best: int | None = Field(None, ge=0)
    population: int | None = Field(None, ge=1)
    score: float | None = None
    scores: list[float | None] = []
    overwritten: bool | None = None
    exploits: int | None = Field(None, ge=0)
    ancestry: list[list[int]] = []
    diverged: int | None = Field(None, ge=0)
    images: int | None = Field(None, ge=0)
    evaluations: int | None = Field(None, ge=0)
    policies: dict[str, dict[str, float]] = {}


class ResultsFile(_Form):
    """`results.json`."""

    rows: list[Row] = []
    costs: list[Cost] = []
    searches: dict[Role, Search] = {}


class InputCopy(_Form):
    """The copy of a file that a setting names, in `inputs.json`."""

    path: str
    name: str
    files: dict[str, str]


class OwnCodeRecord(_Form):
    """A piece of own code in `code/own.json`."""

    path: str
    name: str
    sha256: str


METRICS_LINES = TypeAdapter(list[MetricsLine])
LINEAGE_LINES = TypeAdapter(list[LineageLine])
CONFIG_FILE = TypeAdapter(ConfigFile)
STAGES_FILE = TypeAdapter(dict[str, Stage])
RESULTS_FILE = TypeAdapter(ResultsFile)
INPUTS_FILE = TypeAdapter(dict[str, InputCopy])
OWN_CODE_FILE = TypeAdapter(dict[str, OwnCodeRecord])


def checked(form: TypeAdapter[T], value: Any, path: Path, *, lines: bool = False) -> T:
    """What a file of a run holds, in its form.

    Args:
        form: form of the whole file.
        value: what was read.
        path: file it was read from, for the message.
        lines: True where `value` is a list of lines, which the message then counts from 1.

    Raises:
        InputError: `value` has another form.
    """
    try:
        return form.validate_python(value)
    except ValidationError as error:
        faults = [_fault(fault, path, lines) for fault in error.errors()]
        more = f"; and {len(faults) - _FAULTS:,} more" if len(faults) > _FAULTS else ""
        raise InputError(
            f"{path} cannot be used: {'; '.join(faults[:_FAULTS])}{more}. The file was changed or damaged: restore it."
        ) from None


def _fault(fault: Any, path: Path, lines: bool) -> str:
    place = list(fault["loc"])
    where = f"{path.name}:{place.pop(0) + 1} " if lines and place and isinstance(place[0], int) else ""
    named = ".".join(map(str, place))
    return f"{where}{named}{': ' if named else ''}{fault['msg']}"


UNKNOWN = "unknown"
# What every row of today states, and what an earlier version's may not.
_STATED: dict[str, Any] = {
    "network": UNKNOWN,
    "quantizer": None,
    "init": None,
    "kd": None,
    "schedule": None,
    "schedule_sha256": None,
    "no_operation": False,
    "baseline": False,
    "training": None,
}


def read_inputs(path: Path) -> dict[str, Any]:
    """What `inputs.json` holds: the copies by the setting that named their originals; empty where there is no file.

    Raises:
        InputError: it is not what the pipeline writes.
    """
    if not path.exists():
        return {}
    found: dict[str, Any] = load_json(path)
    checked(INPUTS_FILE, found, path)
    return found


def read_results(path: Path) -> dict[str, Any]:
    """What `results.json` holds; empty parts where there is no file yet.

    Raises:
        InputError: it is not what the pipeline writes.
    """
    empty: dict[str, Any] = {"rows": [], "searches": {}, "costs": []}
    if not path.exists():
        return empty
    found = load_json(path)
    checked(RESULTS_FILE, found, path)
    rows = [
        row | {key: value for key, value in _STATED.items() if key not in row}
        for row in found.get("rows", [])
    ]
    return {**empty, **found, "rows": rows}
