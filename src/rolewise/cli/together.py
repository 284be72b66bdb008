"""A command whose processes share one run directory, started by `torchrun`."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolewise.cli import common
from rolewise.errors import InputError, Interrupted

if TYPE_CHECKING:
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
def open_run(
    *,
    out: Path | None,
    resume: Path | None,
    preset: str | None,
    config: Path | None,
    assignments: list[str] | None,
    options: Mapping[str, Any],
    quiet: bool,
) -> Iterator["Pipeline"]:
    """`common.open_run`; under `torchrun` the first process opens the run, and the others follow it.

    Raises:
        InputError, Interrupted: see `common.open_run`.
    """
    from rolewise.config import load_config, parse_config
    from rolewise.runs import RESUMABLE, StopFlag, read_config
    from rolewise.stages import Pipeline
    from rolewise.trainer.follower import Follower
    from rolewise.trainer.parallel import join, launched

    given: dict[str, Any] = {"preset": preset, "assignments": assignments, "options": options}
    if not launched():
        with common.open_run(out=out, resume=resume, config=config, quiet=quiet, **given) as pipeline:
            yield pipeline
        return
    if resume is None:
        device = load_config(
            preset=preset, file=config, assignments=assignments or (), options=options
        ).machine.device
    else:
        device = options.get("machine.device") or read_config(resume)["config"]["machine"]["device"]
    group = join(device)
    assert group is not None
    # Where one process has ended, torchrun sends a signal to the others, which are about to end with the same status.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(RESUMABLE))
    try:
        if group.rank == 0:
            with common.open_run(out=out, resume=resume, config=config, quiet=quiet, **given) as pipeline:
                group.tell({"path": str(pipeline.run.path), "config": pipeline.config.model_dump()})
                pipeline.group = group
                yield pipeline
            return
        told = group.tell()
        with StopFlag() as flag:
            run = Follower(told["path"])
            yield Pipeline(parse_config(told["config"]), run, should_stop=flag, group=group)
    except Interrupted:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
