"""Files that are written whole or not at all, and JSON whose bytes depend on its values alone.

A file is written under a temporary name, flushed to the device, renamed, and the folder flushed: whatever
kills the process, a reader finds the old file or the new one. Every step of that passes a *crash point*, so
that a test can kill the process at each of them (`ROLEWISE_CRASH_AT=n` does, at the n-th).
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from rolewise.errors import InputError, RunError

TEMPORARY = ".tmp-"  # what a killed process left bears this prefix; the holder of the lock may remove it
_CHUNK = 1 << 26
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LARGEST_JSON = 1 << 28  # bytes; no file of ours is larger
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_serial = count()
_steps = count(1)


def crash_point() -> None:
    """One step on the file system; the process kills itself here if a test asked for this very step."""
    wanted = os.environ.get("ROLEWISE_CRASH_AT")
    if wanted and next(_steps) == int(wanted):
        os.kill(os.getpid(), signal.SIGKILL)


def write_all(file: int, data: bytes) -> None:
    """Write `data` to a descriptor, in at least two pieces, so that a crash point lies in the middle."""
    view = memoryview(data)
    piece = max(1, min(_CHUNK, (len(view) + 1) // 2))
    crash_point()
    while view:
        view = view[os.write(file, view[:piece]) :]
        crash_point()


def flush(path: Path) -> None:
    """Flush a file or a folder to the device."""
    file = os.open(path, os.O_RDONLY)
    try:
        crash_point()
        os.fsync(file)
        crash_point()
    finally:
        os.close(file)


def rename(source: Path, target: Path) -> None:
    """Give `source` its final name and flush the folder."""
    crash_point()
    os.replace(source, target)
    crash_point()
    flush(target.parent)


def temporary(folder: Path) -> Path:
    """A name in `folder` that no other file or process uses."""
    return folder / f"{TEMPORARY}{os.getpid()}-{next(_serial)}"


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, unflushed."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_all(file, data)
    finally:
        os.close(file)


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file, or leave what was there.

    Raises:
        RunError: no space is left; what was at `path` is intact.
        OSError: the folder is missing or cannot be written.
    """
    target = Path(path)
    partial = temporary(target.parent)
    with room_for(target, len(data)):
        try:
            write_new(partial, data)
            flush(partial)
            rename(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def room_for(path: Path, needed: int) -> Iterator[None]:
    """Report a full disk: where, and how many bytes are needed. Other faults pass through."""
    try:
        free = free_bytes(path.parent)
        if free is not None and free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise RunError(
            f"Cannot write {path}: {error.strerror or error}. It needs {needed:,} bytes"
            + (f", {free:,} are free" if (free := free_bytes(path.parent)) is not None else "")
            + ". What was there before is intact: free some space, then resume with `--resume`."
        ) from error


def free_bytes(path: str | os.PathLike[str]) -> int | None:
    """Bytes free for this user on the disk of `path`, which need not exist yet; None if not known."""
    folder = Path(path).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each flushed into the one that holds it."""
    missing = [folder for folder in [path, *path.parents] if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        flush(folder.parent)


def remove_temporary(folder: Path) -> None:
    """Remove what a killed process left in `folder`. Only the holder of the run directory's lock may."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                path.unlink()


def finite(value: Any) -> Any:
    """`value` with each NaN and infinity replaced by None: strict JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def to_json(value: Any, *, indent: int | None = 2) -> bytes:
    """JSON in UTF-8, keys in their own order, a line end at the end; the same value gives the same bytes.

    NaN and infinities are written as Python writes them: see `finite` for files that others read.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # A path that is not UTF-8 arrives as lone surrogates; the escape of one is also JSON's own.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def load_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: missing, unreadable, too large or no JSON; the message names file and line.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST_JSON:
            raise InputError(f"{path} has {size:,} bytes, which no file of a run has.")
        return json.loads(path.read_text("utf-8"))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits is a bare ValueError
        where = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
        raise InputError(f"{where} is not JSON: {error}.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error


def inside(folder: Path, name: str) -> Path:
    """The path of `name` within `folder`; a name that leads outside is refused."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise InputError(f"`name` must lie within the run directory, got {name!r}.")
    return folder.joinpath(*parts)


def check_name(name: str) -> str:
    """A plain file name: letters, digits, `.`, `_`, `-`, the first of them a letter or a digit."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 100:
        raise InputError(f"`name` must be a plain name (letters, digits, '.', '_', '-'), got {name!r}.")
    return name
