"""Our schedule files, version 1: what they may hold, and where in the text a fault lies."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from rolewise.augment.baselines import AUTOAUGMENT_BINS, BINS, AutoAugment, RandAugment, TrivialAugment
from rolewise.augment.logs import listed
from rolewise.augment.ops import LEVELS, OPS
from rolewise.augment.policy import TENTHS, BasePolicy, Policy
from rolewise.augment.schedule import MAX_EPOCHS, Schedule
from rolewise.augment.spaces import SPACES, check_space
from rolewise.errors import InputError, unknown

FORMAT_VERSION = 1
_FORMAT = "rolewise.schedule"


def _known(name: str) -> str:
    if name not in OPS:
        raise ValueError(unknown("op", name, OPS))
    return name


OpName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(OPS)})]
SpaceName = Annotated[str, AfterValidator(check_space), Field(json_schema_extra={"enum": list(SPACES)})]
Probability = Annotated[int, Field(ge=0, le=TENTHS, description="tenths")]
Magnitude = Annotated[int, Field(ge=0, le=LEVELS - 1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PbaPolicy(_Part):
    """At most two of the slots fire on an image; a slot is [op, probability in tenths, magnitude]."""

    kind: Literal["pba"]
    settings: list[tuple[OpName, Probability, Magnitude]]

    def policy(self) -> BasePolicy:
        """The policy that is described."""
        return Policy(self.settings)


class RandAugmentPolicy(_Part):
    """`num_ops` ops on every image, at one magnitude in thirtieths of each op's range."""

    kind: Literal["randaugment"]
    num_ops: Annotated[int, Field(ge=0, le=100)]
    magnitude: Annotated[int, Field(ge=0, le=BINS - 1)]
    space: SpaceName = RandAugment.space

    def policy(self) -> BasePolicy:
        """The policy that is described."""
        return RandAugment(self.num_ops, self.magnitude, self.space)


class TrivialAugmentPolicy(_Part):
    """One op on every image, at any strength."""

    kind: Literal["trivialaugment"]
    space: SpaceName = TrivialAugment.space

    def policy(self) -> BasePolicy:
        """The policy that is described."""
        return TrivialAugment(self.space)


class AutoAugmentPolicy(_Part):
    """One of AutoAugment's 25 pairs of ops for CIFAR-10."""

    kind: Literal["autoaugment"]
    space: Annotated[str, Field(json_schema_extra={"enum": list(AUTOAUGMENT_BINS)})] = AutoAugment.space

    @field_validator("space")
    @classmethod
    def _space(cls, space: str) -> str:
        return AutoAugment(space).space

    def policy(self) -> BasePolicy:
        """The policy that is described."""
        return AutoAugment(self.space)


class SegmentPart(_Part):
    """So many epochs under `policies[policy]`."""

    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
    policy: Annotated[int, Field(ge=0, description="position in `policies`")]


AnyPolicy = Annotated[
    PbaPolicy | RandAugmentPolicy | TrivialAugmentPolicy | AutoAugmentPolicy, Field(discriminator="kind")
]


class Document(_Part):
    """A schedule: one augmentation policy per epoch, as segments."""

    format: Literal["rolewise.schedule"]
    format_version: Literal[1]
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS, description="sum of the segments' epochs")]
    role: Literal["teacher", "student"] | None = None
    policies: Annotated[list[AnyPolicy], Field(min_length=1)]
    segments: Annotated[list[SegmentPart], Field(min_length=1)]
    provenance: Annotated[
        dict[str, JsonValue], Field(description="on what, by which run, with which score")
    ] = {}

    def schedule(self) -> Schedule:
        """The schedule that is described."""
        policies = [part.policy() for part in self.policies]
        segments = [(part.epochs, policies[part.policy]) for part in self.segments]
        return Schedule(segments, role=self.role, provenance=self.provenance)


def read_document(text: str, name: str) -> Document:
    """Our JSON, checked.

    Raises:
        InputError: all faults at once, each with file and line.
    """
    try:
        values = json.loads(text, object_pairs_hook=_distinct, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name}, line {error.lineno}: not JSON: {error.msg} (column {error.colno})."
        ) from None
    except RecursionError:
        raise InputError(f"{name}: nested too deeply for a schedule.") from None
    except ValueError as error:  # a repeated key, NaN, an integer of thousands of digits
        raise InputError(f"{name}, line {_refused(text)}: {error}.") from None
    kind = values.get("format", _FORMAT)
    if kind != _FORMAT:  # a file of another kind: what else is wrong with it as a schedule is no help
        line = line_of(text, ("format",))
        raise InputError(
            f"{name}, line {line}: format: must be {_FORMAT!r}, got {kind!r:.80}: this is not a schedule."
        )
    version = values.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise InputError(
            f"{name} has format_version {version}; this version of rolewise reads up to {FORMAT_VERSION}: upgrade it."
        )
    try:
        document = Document.model_validate_json(text)
    except ValidationError as error:
        faults = [f"{name}, line {line_of(text, fault['loc'])}: {_said(fault)}" for fault in error.errors()]
        raise InputError(listed(faults)) from None
    faults = []
    for number, part in enumerate(document.segments):
        if part.policy >= len(document.policies):
            line = line_of(text, ("segments", number, "policy"))
            faults.append(f"{name}, line {line}: segments[{number}]: there is no policies[{part.policy}].")
    total = sum(part.epochs for part in document.segments)
    if total != document.epochs:
        line = line_of(text, ("epochs",))
        faults.append(
            f"{name}, line {line}: epochs is {document.epochs}, but the segments are {total} epochs long."
        )
    if faults:
        raise InputError(listed(faults))
    return document


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f'the key "{key}" comes twice')
        seen[key] = value
    return seen


def _constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON value")


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?P<key>\s*:)?|[{}]|(?P<word>NaN|-?Infinity|-?\d{4000,})')


def _refused(text: str) -> int:
    """The line of the first key that comes twice in its object, or of the first value that is none of JSON's."""
    keys: list[set[str]] = [set()]
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word == "{":
            keys.append(set())
        elif word == "}":
            keys.pop()
        elif token["word"] or (token["key"] and json.loads(word.rstrip(": \t\r\n")) in keys[-1]):
            return text.count("\n", 0, token.start()) + 1
        elif token["key"]:
            keys[-1].add(json.loads(word.rstrip(": \t\r\n")))
    return text.count("\n") + 1


def _said(fault: Any) -> str:
    """One fault of pydantic in our words: where, what is allowed, what came."""
    where = ""
    for part in fault["loc"]:
        where += f"[{part}]" if isinstance(part, int) else ("" if part in _TAGS else f".{part}")
    message = _WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "must be", 1)
    came = fault.get("input")
    shown = "" if isinstance(came, dict | list) or "got" in message else f", got {came!r:.80}"
    return f"{where.lstrip('.') or 'the file'}: {message.rstrip('.')}{shown}."


_WORDS = {"missing": "missing", "extra_forbidden": "unknown"}  # pydantic's types of faults
_TAGS = ("pba", "randaugment", "trivialaugment", "autoaugment")
_SPACE = re.compile(r"[\s,:]*")


def line_of(text: str, path: tuple[int | str, ...]) -> int:
    """The line of a value in a JSON text, as near as its path leads (the text must be valid)."""
    decoder = json.JSONDecoder()

    def skip(position: int) -> int:
        found = _SPACE.match(text, position)
        return found.end() if found else position

    def child(position: int, part: int | str) -> int | None:
        closing = {"{": "}", "[": "]"}.get(text[position])
        if closing is None or (closing == "]") != isinstance(part, int):
            return None
        number = 0
        position = skip(position + 1)
        while text[position] != closing:
            key: int | str = number
            if closing == "}":
                key, position = decoder.raw_decode(text, position)
                position = skip(position)
            if key == part:
                return position
            position = skip(decoder.raw_decode(text, position)[1])
            number += 1
        return None

    position = skip(0)
    for part in path:
        position = child(position, part) or position  # a part that is no key (pydantic's tags) leads nowhere
    return text.count("\n", 0, position) + 1


def json_schema() -> dict[str, Any]:
    """The JSON Schema of our files, as stored in `schedule.schema.json` next to this file.

    `python -m rolewise.augment.format` writes that file.
    """
    schema = Document.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "rolewise schedule, format version 1"
    return schema


if __name__ == "__main__":
    Path(__file__).with_name("schedule.schema.json").write_text(
        json.dumps(json_schema(), indent=1) + "\n", "utf-8"
    )
