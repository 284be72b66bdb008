"""Own code that the user names, `FILE.py:name`: it is run as a program, and its errors say where they arose.

Nothing but such a file is ever run, and only because the user named it.
"""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from rolewise.errors import InputError, check_path, unknown

_PREFIX = "rolewise_user_"


@dataclass(frozen=True)
class OwnCode:
    """What a file defines under a name.

    Args:
        spec: "FILE.py:name", as the user wrote it.
        path: the file, absolute.
        name: within the file.
        sha256: SHA-256 of the file (hex), as it was run.
        value: the class or function.
    """

    spec: str
    path: Path
    name: str
    sha256: str
    value: Any

    def record(self) -> dict[str, str]:
        """Path, name and digest, for the records of a run."""
        return {"path": str(self.path), "name": self.name, "sha256": self.sha256}


def is_own_code(spec: str) -> bool:
    """Whether a text names own code, and not something of the package."""
    return ".py:" in spec or spec.endswith(".py")


def find_own_code(spec: str, kind: str) -> tuple[Path, str]:
    """The file and the name of "FILE.py:name"; nothing is run.

    Args:
        spec: specification as the user wrote it.
        kind: kind of object, for messages, such as "loss".
    Raises:
        InputError: another form, or no such file.
    """
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        form = "FILE.py:Class" if kind == "loss" else "FILE.py:name"
        raise InputError(f'A {kind} of your own is given as "{form}", got "{spec}".')
    path = check_path(kind, file).resolve()
    if not path.is_file():
        raise InputError(f'There is no file "{path}" (from "{spec}").')
    return path, name


def load_own_code(spec: str, kind: str) -> OwnCode:
    """Runs the file, once per process, and gives what it defines under the name.

    Args:
        spec: "FILE.py:name".
        kind: kind of object, for messages, such as "loss".
    Raises:
        InputError: no such file or name, or an error while the file runs: file, line and words of it.
    """
    path, name = find_own_code(spec, kind)
    module = _module(path)
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type if kind == "loss" else type | FunctionType)
        and getattr(value, "__module__", None) == module.__name__
    }
    if name not in found and not callable(getattr(module, name, None)):
        what = "class" if kind == "loss" else "class or function"
        raise InputError(f'In "{path}": {unknown(what, name, found)}')
    return OwnCode(spec, path, name, str(vars(module)["_rolewise_sha256"]), getattr(module, name))


def _module(path: Path) -> ModuleType:
    """The module of a file, run once per process."""
    name = f"{_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f'"{path}" cannot be read: {error.strerror}.') from None
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f'"{path}" cannot be read as a Python file.')
    module = importlib.util.module_from_spec(spec)
    vars(module)["_rolewise_sha256"] = digest
    sys.modules[name] = module
    try:
        with own_errors(path, "when the file is run"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def own_errors(path: Path, doing: str) -> Iterator[None]:
    """Turns whatever own code raises into an `InputError` that names file, line, function and the error.

    Errors whose traceback never enters the file, and those of this package about its own arguments, pass unchanged.

    Args:
        path: the file.
        doing: operation in progress, such as "MyLoss.forward".
    Raises:
        InputError: see above; the original error is its cause.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        place = where(path, error)
        if place is None and not isinstance(error, SyntaxError):
            raise
        if isinstance(error, SyntaxError) and error.filename == str(path):
            place = f"line {error.lineno}"
        words = " ".join(str(error).split())[:400]
        raise InputError(
            f"{path}{', ' + place if place else ''} ({doing}): {type(error).__name__}{': ' + words if words else ''}"
        ) from error


def reduce_own(item: Any) -> Any:
    """How a class or function of own code travels to a process that has not run its file; for `reducer_override`.

    Pickle finds classes by the name of their module, which such a process does not know: it receives the file.
    """
    module = getattr(item, "__module__", None)
    if not isinstance(item, type | FunctionType) or not str(module).startswith(_PREFIX):
        return NotImplemented
    file = getattr(sys.modules.get(str(module)), "__file__", None)
    return NotImplemented if file is None else (_find, (file, item.__qualname__))


def _find(file: str, qualname: str) -> Any:
    found: Any = _module(Path(file))
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def is_from_own_code(item: object) -> bool:
    """Whether an object's class is defined in own code that was run here."""
    return type(item).__module__.startswith(_PREFIX)


def own_file(item: object) -> Path:
    """The file that defines an object's class."""
    return Path(str(sys.modules[type(item).__module__].__file__))


def where(path: Path, error: BaseException) -> str | None:
    """The last place in the file that an error came through: "line 12, in forward"; None if it never was there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f"line {frames[-1].lineno}, in {frames[-1].name}" if frames else None
