"""A run's figures as TensorBoard events, while the run works."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolewise.errors import check_path, missing_extra
from rolewise.progress.base import Progress

FOLDER = "tensorboard"
_FLUSH = 5  # seconds, at most, until an event is on disk


def check_tensorboard() -> None:
    """Checks that events can be written, before a run starts and not at its first epoch.

    Raises:
        MissingExtraError: the package tensorboard is missing or broken.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401 - imported to be tried
    except (ImportError, RuntimeError, OSError) as error:
        raise missing_extra("Writing TensorBoard events", "tensorboard", "tensorboard", error) from error


def summary_writer(folder: str | os.PathLike[str], **options: Any) -> Any:
    """A `SummaryWriter` on `folder`, once `check_tensorboard` has passed."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), **options)


class TensorBoardLog(Progress):
    """Live TensorBoard events: a run for each stage, one below it for each member of a search; the step is the epoch.

    Args:
        folder: folder for the events; None: `tensorboard` in the run directory.

    Raises:
        InputError: no path.
        MissingExtraError: the package tensorboard is missing or broken.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        check_tensorboard()
        self._folder = None if folder is None else check_path("folder", folder)
        self._stage, self._epochs, self._first = "", 0, 0
        self._writers: dict[str, Any] = {}

    def opened(self, directory: Path) -> None:
        """Takes the run directory's folder, unless one was given."""
        self._folder = self._folder or directory / FOLDER

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """Starts the stage's events; those of epochs that are done again are hidden by TensorBoard."""
        self._close()
        self._stage, self._epochs, self._first = stage, epochs, done + 1

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Adds each value as `train/<name>`, or `validation/<name>`."""
        for name, value in values.items():
            split, plain = "train", name
            if name.startswith("validation_"):
                split, plain = "validation", name.removeprefix("validation_")
            if name != "epoch":
                self._add(self._stage, f"{split}/{plain}", value, epoch)

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Adds each member's score as `validation/accuracy`."""
        for member, score in enumerate(scores):
            if score is not None:
                self._add(f"{self._stage}/member-{member:02d}", "validation/accuracy", score, epoch)

    def finish(self, summary: str = "") -> None:
        """Writes out what is left."""
        self._close()

    def result(self, stage: str, values: dict[str, float]) -> None:
        """Adds each value as `test/<name>` at the last epoch."""
        for name, value in values.items():
            self._add(stage, f"test/{name.removeprefix('test_')}", value, self._epochs)
        self._close()

    def _add(self, run: str, tag: str, value: float, epoch: int) -> None:
        if self._folder is None:
            return
        if run not in self._writers:
            self._writers[run] = summary_writer(
                self._folder / run, flush_secs=_FLUSH, purge_step=self._first if self._first > 1 else None
            )
        self._writers[run].add_scalar(tag, value, epoch)

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self._first = 0  # a writer that is opened again must not hide what this one wrote
