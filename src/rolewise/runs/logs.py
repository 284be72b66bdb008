"""Logs with one JSON object a line: appended to, cut back to a checkpoint's mark, read without torn tail."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rolewise.errors import InputError
from rolewise.runs.files import crash_point, finite, flush, room_for, to_json, write_all, write_atomic
from rolewise.runs.layout import LINEAGE, METRICS
from rolewise.runs.records import LINEAGE_LINES, METRICS_LINES, checked


def append(path: Path, fields: Mapping[str, Any]) -> None:
    """Add one line. It is flushed to the device with the next mark only."""
    line = to_json(finite(dict(fields)), indent=None)
    with room_for(path, len(line)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            write_all(file, line)
        finally:
            os.close(file)


def mark(path: Path) -> int:
    """How many bytes the log has, all of them on the device now."""
    if not path.exists():
        return 0
    flush(path)
    return path.stat().st_size


def mend(path: Path) -> None:
    """Drop a last line that was cut off, so that the next one does not become part of it."""
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            rewind(path, data.rfind(b"\n") + 1)


def tail(path: Path, length: int) -> list[dict[str, Any]]:
    """The objects that were appended after the mark `length`; what a crash left unreadable there is skipped.

    Raises:
        InputError: the log is shorter than that, so someone changed it.
    """
    if _beyond(path, length) == 0:
        return []
    found = []
    for line in path.read_bytes()[length:].split(b"\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def rewind(path: Path, length: int, keep: Sequence[Mapping[str, Any]] = ()) -> None:
    """Drop what was appended after the mark `length`, but for the lines in `keep`.

    Raises:
        InputError: the log is shorter than that, so someone changed it.
    """
    beyond = _beyond(path, length)
    if keep:
        lines = b"".join(to_json(dict(line), indent=None) for line in keep)
        write_atomic(path, path.read_bytes()[:length] + lines)
    elif beyond:
        crash_point()
        os.truncate(path, length)
        flush(path)


def _beyond(path: Path, length: int) -> int:
    """How many bytes follow the mark `length`."""
    found = path.stat().st_size if path.exists() else 0
    if found < length:
        raise InputError(
            f"{path} has {found} bytes, but the checkpoint was saved when it had {length}: it was changed "
            "since. Restore it, or start again in another directory."
        )
    return found - length


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The objects of a log, in order; none if there is no log. A last line that was cut off is dropped.

    Raises:
        InputError: a line other than the last is no JSON object; the message names file and line.
    """
    file = Path(path)
    if not file.exists():
        return []
    *lines, _torn = file.read_bytes().split(b"\n")  # what follows the last line end is no whole line
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}:{number} is not JSON: {error}.") from error
        if not isinstance(entry, dict):
            raise InputError(f"{file}:{number} must be a JSON object, got {type(entry).__name__}.")
        entries.append(entry)
    return entries


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; `path` is the run directory or the file itself. See `read`."""
    return _lines(path, METRICS, METRICS_LINES)


def read_lineage(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of `lineage.jsonl`; `path` is the run directory or the file itself. See `read`."""
    return _lines(path, LINEAGE, LINEAGE_LINES)


def _lines(path: str | os.PathLike[str], name: str, form: TypeAdapter[Any]) -> list[dict[str, Any]]:
    """The lines of a log, given as the file or as the run directory.

    Raises:
        InputError: a line is no JSON object, or one of another form.
    """
    file = Path(path) / name if Path(path).is_dir() else Path(path)
    found = read(file)
    checked(form, found, file, lines=True)
    return found
