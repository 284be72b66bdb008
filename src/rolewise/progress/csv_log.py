"""A run's figures as a CSV file that grows while the run works."""

import csv
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from rolewise.errors import InputError, check_path
from rolewise.progress.base import Progress

HEADER = ("time", "stage", "epoch", "member", "name", "value")
FILE = "progress.csv"


class CsvLog(Progress):
    """One line for each figure: unix time, stage, epoch, member (empty outside a search), name, value.

    Names are those of `Progress.epoch` (loss, accuracy, ...), `score` and `overwritten_by` of members, `test_accuracy`.
    Every line is on disk as soon as its epoch is over. A file that is there already is continued: after a crash, the
    epochs since the last checkpoint come twice, and the later lines count; a line that broke off stays as it is, on a
    line of its own. A disk that cannot take a line costs the log and not the run.

    Args:
        path: file to write; None: `progress.csv` in the run directory.

    Raises:
        InputError: no path, a file that is no such log, or one that cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path: Path | None = None
        self._stage = ""
        self._pending = path is None
        if path is not None:
            self._open(check_path("path", path))

    def opened(self, directory: Path) -> None:
        """Starts the log in the run directory, unless a path was given."""
        if self._pending:
            self._pending = False
            self._open(directory / FILE)

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """Names the stage of the lines that follow."""
        self._stage = stage

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Writes each value."""
        self._write([(epoch, "", name, value) for name, value in values.items() if name != "epoch"])

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Writes each member's score, and by whom it was overwritten."""
        lines = [(epoch, member, "score", score) for member, score in enumerate(scores) if score is not None]
        self._write([*lines, *((epoch, target, "overwritten_by", source) for target, source in moves)])

    def result(self, stage: str, values: dict[str, float]) -> None:
        """Writes each value."""
        self._stage = stage
        self._write([("", "", name, value) for name, value in values.items()])

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size:
                with path.open("rb+") as old:
                    if old.readline().decode("utf-8", "replace").rstrip("\r\n") != ",".join(HEADER):
                        raise InputError(f"{path} is no log of rolewise: name another file.")
                    old.seek(-1, os.SEEK_END)
                    if old.read() != b"\n":  # the disk was full, or the machine stopped
                        old.write(b"\n")
            else:
                with path.open("w", encoding="utf-8") as new:
                    new.write(",".join(HEADER) + "\n")
            self._path = path
        except OSError as error:
            raise InputError(f"Cannot write {path}: {error.strerror or error}. Name another file.") from error

    def _write(self, lines: Sequence[tuple[object, ...]]) -> None:
        if self._path is None:
            return
        now = f"{time.time():.3f}"
        try:
            # Opened for each epoch: no line is held back, and nothing is left open however the run ends.
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([now, self._stage, *line] for line in lines)
        except OSError as error:
            self._path = None
            warnings.warn(
                f"The CSV log ends here, and the run continues: {error.strerror or error}", stacklevel=2
            )
