"""Writes a search's logs and checkpoints, and restores them."""

import time
from collections.abc import Mapping
from typing import Any

from rolewise.errors import InputError, RunError
from rolewise.population.lineage import Exploit
from rolewise.population.state import FORMAT_VERSION, Member, SearchState
from rolewise.progress import Progress
from rolewise.runs import CheckpointStore, RunDirectory, layout
from rolewise.trainer import check_identity


class SearchLog:
    """Log lines and checkpoints of one search, which stay consistent after a crash. Without a run it does nothing.

    Args:
        run: open run directory, or None.
        role: "teacher" or "student"; part of the checkpoints' name and of every line.
        identity: all that the result depends on; a search is resumed only under the same.
        seconds: minimum time between two checkpoints; 0 writes one at every boundary.
        progress: listener for notes.
    """

    def __init__(
        self,
        run: RunDirectory | None,
        *,
        role: str,
        identity: Mapping[str, Any],
        seconds: float = 30.0,
        progress: Progress | None = None,
    ) -> None:
        if not seconds >= 0:
            raise InputError(f"`checkpoint_seconds` must be a number of at least 0, got {seconds}.")
        self.stage = layout.search_stage(role)
        self._run, self._role = run, role
        self._identity = dict(identity)
        self._seconds, self._progress = seconds, progress or Progress()
        self._store: CheckpointStore | None = None if run is None else run.checkpoints(self.stage)
        self._step, self._saved = 0, time.monotonic()

    def resume(self, state: SearchState) -> None:
        """Brings `state` to the newest checkpoint, if there is one, and the logs to where they were then.

        Raises:
            InputError: the checkpoint is that of a search with other settings, or of a later version.
        """
        if self._run is None or self._store is None:
            return
        found = self._store.latest()
        if found is None:
            self._run.rewind(stage=self.stage)
            return
        if found.state["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{found.path} was written by a later version of rolewise; resume it with that one."
            )
        check_identity(found.state["identity"], self._identity, self._run.path, what="search")
        state.restore(found)
        self._run.rewind(found.state["marks"], stage=self.stage)
        self._step = found.step + 1
        self._progress.note(f"{self.stage}: resumed after epoch {state.completed} of {state.lineage.epochs}")

    def boundary(self, members: list[Member], exploits: list[Exploit]) -> None:
        """Logs an interval of all members, and the decisions after it."""
        if self._run is None:
            return
        for member in members:
            for line in member.lines:
                split, epoch = line["split"], line["epoch"]
                values = {key: value for key, value in line.items() if key not in ("split", "epoch")}
                about = {"stage": self.stage, "role": self._role, "member": member.id}
                self._run.append_metrics(**about, epoch=epoch, split=split, **values)
        for exploit in exploits:
            self._run.append_lineage(**exploit.to_json(self._role))

    def save(self, state: SearchState, *, now: bool = False) -> None:
        """Writes a checkpoint if the last one is old enough, or `now`."""
        if self._run is None or self._store is None:
            return
        if not now and time.monotonic() - self._saved < self._seconds:
            return
        about = {**state.to_json(), "identity": self._identity, "marks": self._run.marks()}
        self._store.save(self._step, state.tensors(), about)
        self._step, self._saved = self._step + 1, time.monotonic()

    def save_after(self, error: BaseException, state: SearchState) -> None:
        """Saves what was reached before `error`; if that fails too, a note on `error` says so."""
        try:
            self.save(state, now=True)
        except (RunError, InputError, OSError) as second:
            error.add_note(f"What was reached since the last checkpoint could not be saved: {second}")
