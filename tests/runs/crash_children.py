"""Forks one child per crash point of a job and lets it die there; run as a script by the tests beside it.

    crash_children.py JOB FOLDER

`FOLDER/start` is copied to `FOLDER/1`, `FOLDER/2`, ... for the children; the last copy is of the child that
came through. Prints the number of children that were killed.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from run_samples import groups

from rolewise.runs import CheckpointStore, RunDirectory, write_atomic


def atomic(folder: Path) -> None:
    write_atomic(folder / "file", b"new " * 1000)


def save(folder: Path) -> None:
    CheckpointStore(folder, keep=2).save(3, groups(3), {"step": 3})


def directory(folder: Path) -> None:
    with RunDirectory.create(folder / "run", {"seed": 1}) as run:
        run.append_metrics(role="teacher", epoch=1)
        run.mark_done("train-teacher", {"epochs": 1})
        run.append_metrics(role="student", epoch=1)
        run.rewind()


def main(job: Callable[[Path], None], folder: Path) -> None:
    for point in range(1, 1000):
        place = folder / str(point)
        shutil.copytree(folder / "start", place)
        child = os.fork()
        if child == 0:
            os.environ["ROLEWISE_CRASH_AT"] = str(point)
            job(place)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            print(point - 1)
            return
        if status != -signal.SIGKILL:
            sys.exit(f"the child for crash point {point} ended with {status}")
    sys.exit("no end of crash points")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main({"atomic": atomic, "save": save, "directory": directory}[sys.argv[1]], Path(sys.argv[2]))
