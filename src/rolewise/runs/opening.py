"""A run directory with the flag that a signal sets, for the time of one piece of work."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolewise.errors import InputError
from rolewise.runs.directory import RunDirectory
from rolewise.runs.place import read_config, refuse_used
from rolewise.runs.stop import StopFlag


def _never() -> bool:
    return False


@dataclass(frozen=True)
class OpenRun:
    """What `open_run` yields.

    Args:
        directory: the open run directory; None where none was asked for.
        should_stop: function that returns True once a signal came or the caller asks for a stop; polled before every
            batch.
    """

    directory: RunDirectory | None = None
    should_stop: Callable[[], bool] = _never


def check_run(path: str | os.PathLike[str] | None, *, resume: bool) -> None:
    """Refuses what `open_run` would refuse, and makes nothing: for callers whose work begins before a run is opened.

    Raises:
        InputError: see `open_run`.
    """
    if path is None:
        if resume:
            raise InputError("`resume` needs `out`, the folder of the run to be resumed.")
    elif resume:
        read_config(path)
    else:
        refuse_used(Path(path))


@contextmanager
def open_run(
    path: str | os.PathLike[str] | None,
    config: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    read_only: bool = False,
    note: Callable[[str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[OpenRun]:
    """Makes or opens a run directory and lets signals set a flag, until the block ends.

    Args:
        path: the directory; None opens nothing and leaves signals to the caller.
        config: settings of a new run.
        resume: True if the directory already holds a run.
        read_only: nothing is written and no lock is taken; the run must be there.
        note: receives sentences for a person, such as which checkpoint was skipped.
        should_stop: further stop condition, polled together with the flag.

    Raises:
        InputError: there is a run although `resume` is False, or none although it is True; `resume` without `path`.
        RunError: another process uses it.
    """
    asked = should_stop or _never
    if path is None:
        check_run(path, resume=resume)
        yield OpenRun(None, asked)
        return
    if resume or read_only:
        run = RunDirectory.open(path, read_only=read_only)
    else:
        run = RunDirectory.create(path, config or {})
    if note is not None:
        run.note = note
    with run, StopFlag() as flag:
        yield OpenRun(run, lambda: flag.requested or asked())
