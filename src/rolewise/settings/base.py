"""What every group of settings is: a frozen dataclass that checks its values, in Python and within a file alike."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass
from pydantic_core import PydanticCustomError

from rolewise.errors import InputError, InputTypeError, unknown

T = TypeVar("T")

_LONGEST = 200  # characters of a value in a message

_RULES = ConfigDict(extra="forbid", allow_inf_nan=False)


class Section(BaseModel):
    """A part of the tree of settings; unknown keys are errors, values do not change."""

    model_config = ConfigDict(**_RULES, frozen=True)


@dataclass_transform(frozen_default=True, field_specifiers=(Field, dataclasses.field))
def settings(cls: type[T]) -> type[T]:
    """Makes of a class a frozen dataclass whose values are checked, wherever they come from.

    Python code makes it like any dataclass (positional arguments, `dataclasses.replace` and `fields` included) and gets
    an `InputError` for a value that cannot be; a `Section` that holds it checks the same rules, and names the place of
    the value in its tree.
    """
    made: Any = checked_dataclass(frozen=True, config=_RULES)(cls)
    check = made.__init__

    @wraps(check)
    def __init__(self: Any, *args: Any, **values: Any) -> None:  # noqa: N807
        try:
            check(self, *args, **values)
        except ValidationError as error:
            raise _input_error(error, made) from None

    made.__init__ = __init__
    result: type[T] = made
    return result


def _integer(value: object) -> object:
    """`value` if it is a whole number of any kind; no bool, no text, nothing with a fraction."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise PydanticCustomError("integer", "must be an integer")
    return int(value.__index__())


def _number(value: object) -> object:
    """`value` unless it is a bool; texts such as "1e-3" stay, for YAML takes them for one."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    return value


Integer = Annotated[int, BeforeValidator(_integer)]
Number = Annotated[float, BeforeValidator(_number)]


def field_names(section: Any) -> list[str]:
    """The names of the settings in a group or section; none for anything else."""
    if isinstance(section, type) and issubclass(section, BaseModel):
        return list(section.model_fields)
    return [one.name for one in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else []


def explain(fault: Any, known: Iterable[str]) -> str:
    """One fault that pydantic found, as a sentence: the setting, what came, what is allowed.

    Args:
        fault: an entry of `ValidationError.errors()`.
        known: names of the other settings of the group, to suggest one for a misspelled name.
    """
    *above, name = (str(part) for part in fault["loc"])
    where = ".".join([*above, name])
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown("setting", where, (".".join([*above, one]) for one in known))
    message = str(fault["msg"])
    if fault["type"] in ("dataclass_type", "model_type"):
        message = "must be a group of named settings"
    elif fault["type"] == "tuple_type":
        message = "must be a list, [A, B, ...]"
    message = message.replace("Input should be", "must be", 1)
    return (
        f"`{where}`{'' if message.startswith('must') else ':'} {message}, got {_shown(fault.get('input'))}."
    )


def _shown(value: object) -> str:
    """`value` as it came, cut where it is longer than anyone reads."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _input_error(error: ValidationError, section: Any) -> InputError:
    faults = error.errors()
    text = "\n".join(explain(fault, field_names(section)) for fault in faults)
    kinds = {str(fault["type"]) for fault in faults}
    wrong_type = all(kind in ("integer", "number") or kind.endswith(("_type", "_parsing")) for kind in kinds)
    return InputTypeError(text) if wrong_type else InputError(text)


def check_names(given: Iterable[str], function: Callable[..., Any], *sections: Any) -> None:
    """Checks that further arguments of a function are settings.

    Args:
        given: names of what came as `**changes`.
        function: function whose own arguments are listed together with the settings.
        sections: the groups of settings that it takes as single arguments.
    Raises:
        InputError: a name that is neither; the message knows all names.
    """
    own = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    names = list(dict.fromkeys([*own, *(name for section in sections for name in field_names(section))]))
    for name in given:
        if name not in names:
            raise InputError(unknown(f"argument of {function.__name__}", name, names))
