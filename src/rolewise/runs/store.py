"""The checkpoints of one stage of a run: which are written, which is read, which are dropped."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rolewise.errors import InputError, RunError, check_integer
from rolewise.runs.checkpoint import FOLDER, Checkpoint, Damaged, says_best, verify, write
from rolewise.runs.files import (
    check_name,
    crash_point,
    make_folder,
    remove_temporary,
    rename,
    room_for,
    temporary,
    to_json,
)


class CheckpointStore:
    """The checkpoints of one stage of a run: the last ones, and the best.

    One process at a time may save (a run directory's lock sees to that); reading changes nothing.

    Args:
        folder: folder of the checkpoints; made at the first save.
        keep: number of recent checkpoints that are kept, at least 1; the best one is kept as well.
        note: receives which checkpoints were skipped and why; the default is Python's `logging`.
    """

    def __init__(
        self, folder: str | os.PathLike[str], keep: int = 2, *, note: Callable[[str], None] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.keep = check_integer("keep", keep, 1)
        self._note = note or logging.getLogger("rolewise").warning
        self._damaged: set[Path] = set()

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Any],
        *,
        best: bool = False,
    ) -> Path:
        """Write one checkpoint, then drop the ones that are no longer kept.

        Args:
            step: number of the checkpoint, at least 0; the highest one is the newest.
            tensors: groups by name ("model", "member-03"); each becomes a safetensors file. Groups with the
                same bytes share one.
            state: anything that JSON can hold; NaN and infinities survive.
            best: True if this is the best so far; it is kept until another one is.

        Raises:
            InputError: a name that is none, or a state that is no JSON.
            RunError: no space is left; earlier checkpoints are intact.
        """
        check_integer("step", step, 0)
        for name in tensors:
            check_name(name)
        try:
            text = to_json(state)
        except (TypeError, ValueError) as error:
            raise InputError(f"`state` must be JSON: {error}.") from error
        needed = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
        target = self._free_name(step)
        with room_for(target, needed + len(text)):
            make_folder(self.folder)
            remove_temporary(self.folder)
            partial = temporary(self.folder)
            try:
                partial.mkdir()
                write(partial, step, tensors, text, best=best)
                rename(partial, target)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        self._prune(newest=target)
        return target

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that verifies; None if there has been none.

        Raises:
            RunError: there are some, but none verifies.
            InputError: the newest is of a later format than this version reads.
        """
        return self._first(self._folders())

    def best(self) -> Checkpoint | None:
        """The newest checkpoint that was saved as the best and verifies; None if none was saved so.

        Raises:
            RunError: there are some, but none verifies.
        """
        return self._first([folder for folder in self._folders() if says_best(folder)])

    def clear(self) -> None:
        """Remove all checkpoints."""
        for folder in reversed(self._folders()):
            self._remove(folder)
        if self.folder.is_dir():
            remove_temporary(self.folder)

    def _first(self, folders: list[Path]) -> Checkpoint | None:
        faults = []
        for folder in folders:
            try:
                return verify(folder)
            except Damaged as fault:
                faults.append(f"{folder}: {fault}")
                self._damaged.add(folder)
                self._note(f"Skipped the checkpoint {folder}: {fault}.")
        if faults:
            raise RunError(
                f"No checkpoint in {self.folder} can be used ({'; '.join(faults)}). "
                "Remove that folder to restart this stage."
            )
        return None

    def _folders(self) -> list[Path]:
        """All checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        found = [(FOLDER.fullmatch(path.name), path) for path in self.folder.iterdir()]
        order = [((int(match[1]), int(match[2] or 0)), path) for match, path in found if match]
        return [path for _, path in sorted(order, reverse=True)]

    def _free_name(self, step: int) -> Path:
        first = self.folder / f"ckpt-{step:06d}"
        taken = [path for path in self._folders() if path.name.split(".")[0] == first.name]
        return self.folder / f"{first.name}.{int(taken[0].suffix[1:] or 0) + 1}" if taken else first

    def _prune(self, newest: Path) -> None:
        sound = [folder for folder in self._folders() if folder not in self._damaged]
        sound.sort(key=lambda folder: folder != newest)  # the one just written is whole, whatever its step
        best = next((folder for folder in sound if says_best(folder)), None)
        for folder in self._folders():
            if folder not in sound[: self.keep] and folder != best:
                self._remove(folder)

    def _remove(self, folder: Path) -> None:
        # Renamed first: a folder that is half removed must not look like a checkpoint.
        doomed = temporary(self.folder)
        crash_point()
        folder.rename(doomed)
        crash_point()
        shutil.rmtree(doomed, ignore_errors=True)
        self._damaged.discard(folder)
