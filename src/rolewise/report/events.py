"""A run's metrics as TensorBoard events."""

import os
import shutil
from pathlib import Path
from typing import Any

from rolewise.errors import InputError
from rolewise.progress.tensorboard_log import check_tensorboard, summary_writer
from rolewise.runs import read_config, read_metrics

_MARK = "rolewise-events"  # in a folder that this wrote: it may be overwritten
_NO_FIGURES = {"stage", "role", "member", "epoch", "split"}


def write_events(run_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Writes `metrics.jsonl` of a run, complete or not, as TensorBoard event files; the step is the epoch.

    A final training is one of TensorBoard's runs (`train-teacher`), a member of a search one below it
    (`search-teacher/member-03`); tags are `train/accuracy`, `validation/loss` and the like.

    Args:
        run_dir: the run directory; it is only read.
        path: folder for the events: new, empty, or written by this function before, and then overwritten.

    Returns:
        The folder.

    Raises:
        InputError: no run directory, or a folder that holds something else.
        MissingExtraError: the package tensorboard is missing or broken.
    """
    check_tensorboard()
    read_config(run_dir)
    lines, folder = read_metrics(run_dir), Path(path)
    _clear(folder)
    writers: dict[str, Any] = {}
    try:
        for line in lines:
            name = str(line.get("stage") or line.get("role"))
            if line.get("epoch") is None:
                continue  # a figure without a place on the axis
            if line.get("member") is not None:
                name += f"/member-{line['member']:02d}"
            if name not in writers:
                writers[name] = summary_writer(folder / name)
            for key, value in line.items():
                if key not in _NO_FIGURES and isinstance(value, int | float):
                    writers[name].add_scalar(f"{line.get('split')}/{key}", value, line["epoch"])
    finally:
        for writer in writers.values():
            writer.close()
    return folder


def _clear(folder: Path) -> None:
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            if not (folder / _MARK).is_file():
                raise InputError(
                    f"{folder} holds something that is not TensorBoard events of a run: name a new folder."
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise InputError(f"Cannot write {folder}: {error.strerror or error}. Name another folder.") from error
