"""How errors are worded, and which of them are the user's to mend.

Every message names the argument, what came, what is allowed, and the way out.
"""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """What the user gave cannot be used. The command line exits with status 2."""


class InputTypeError(InputError, TypeError):
    """An argument of a type that cannot be used."""


class MissingExtraError(InputError):
    """An optional package is missing, or broken."""


class RunError(RuntimeError):
    """A run failed for a reason that is not its input. The command line exits with status 1."""


class Interrupted(Exception):  # noqa: N818 - the outcome of a signal, not a fault
    """A signal stopped the run; all is saved and `--resume` continues it. The command line exits with 75."""


def unknown(kind: str, got: object, known: Iterable[str]) -> str:
    """The sentence for a name that nothing bears: what came, the known names, and the nearest."""
    names = list(known)
    quoted = ", ".join(f'"{name}"' for name in names)
    text = f'Unknown {kind} "{got}". Known: {quoted}.'
    near = difflib.get_close_matches(str(got), names, n=1, cutoff=0.5)
    return f'{text} Did you mean "{near[0]}"?' if near else text


def first_line(error: BaseException) -> str:
    """The first line of an error's text; the name of its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def check_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """`value` as an integer within [low, high]; bools and floats are refused.

    Raises:
        InputTypeError: not an integer.
        InputError: out of range.
    """
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputTypeError(f"`{name}` must be an integer {allowed}, got {value!r}.")
    number = int(value.__index__())
    if number < low or (high is not None and number > high):
        raise InputError(f"`{name}` must be an integer {allowed}, got {number}.")
    return number


def check_path(name: str, value: object) -> Path:
    """`value` as a path that the system can look up; `~` is the user's folder. Nothing has to be there.

    Raises:
        InputTypeError: not a path.
        InputError: a name that is too long, holds a null character, or begins with the `~` of an unknown user.
    """
    if not isinstance(value, str | os.PathLike):
        raise InputTypeError(f"`{name}` must be a path, got {value!r}.")
    shown = str(value) if len(str(value)) <= 80 else f"{str(value)[:60]}... ({len(str(value)):,} characters)"
    try:
        path = Path(value).expanduser()
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path
    except RuntimeError:
        raise InputError(
            f"`{name}`: {shown} begins with the folder of a user that this machine does not know."
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"`{name}`: {shown} is no path that can be looked up ({reason}).") from None
    return path


def missing_extra(
    who: str, package: str, extra: str, cause: BaseException | None = None
) -> MissingExtraError:
    """The error for an optional package that is not there, or that does not import."""
    state = (
        "is not installed" if isinstance(cause, ImportError) or cause is None else f"does not work ({cause})"
    )
    return MissingExtraError(f"{who} needs {package}, which {state}: {how_to_install(extra)}.")


def how_to_install(extra: str) -> str:
    """The command that installs an extra; in a clone it is that of the clone."""
    if extra == "vision":
        return "install the torchvision that fits your PyTorch (rolewise[vision]); rolewise does not need it"
    clone = Path(__file__).resolve().parents[2]
    if (clone / "pyproject.toml").is_file():
        return f"pip install -e '{clone}[{extra}]'"
    return f'pip install "rolewise[{extra}]"'
