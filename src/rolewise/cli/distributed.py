"""A command whose processes share one run directory, started by `torchrun`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolewise.errors import InputError, Interrupted

if TYPE_CHECKING:
    from rolewise.config import Config
    from rolewise.stages import Pipeline


def refuse_torchrun(command: str) -> None:
    """For commands that start their own processes.

    Raises:
        InputError: `torchrun` started this one.
    """
    from rolewise.trainer.parallel import launched

    if launched():
        raise InputError(
            f"`rolewise {command}` is one process, and a search starts its own workers: start it without torchrun. "
            "`rolewise train` is what several processes can share."
        )


@contextmanager
def open_pipeline(
    settings: "Config | dict[str, Any]",
    *,
    out: Path | None,
    resume: Path | None,
    only: str,
    quiet: bool,
    logs: list[str],
) -> Iterator["Pipeline"]:
    """`stages.open_pipeline`, shared by the processes that `torchrun` started, if it did.

    Raises:
        InputError, RunError, Interrupted: see `stages.open_pipeline`.
    """
    from rolewise import stages
    from rolewise.cli.display import make_progress
    from rolewise.runs import RESUMABLE
    from rolewise.trainer.parallel import join, launched

    group = join(stages.settings_of(settings, resume).machine.device) if launched() else None
    if group is not None:
        # Where one process has ended, torchrun sends a signal to the others, which are about to end with the same
        # status.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(RESUMABLE))
    progress = make_progress(quiet=quiet, logs=logs) if group is None or group.rank == 0 else None
    try:
        with stages.open_pipeline(
            settings, out=out, resume=resume, only=only, progress=progress, group=group
        ) as pipeline:
            yield pipeline
    except Interrupted:
        if group is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
