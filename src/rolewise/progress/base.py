"""The listener of a run, and several of them as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One stage of a run that is planned.

    Args:
        stage: its name, such as "search-teacher" or "train-student" (see `rolewise.runs.layout`).
        images: training images of the stage, of all epochs and members; a measure of its length.
        done: True if an earlier session of the run has finished it.
    """

    stage: str
    images: int
    done: bool = False


class Progress:
    """A listener that ignores everything; a subclass overrides what it wants to receive.

    All calls come from the thread that called `search` or `train`, so that none needs a lock; they should return
    quickly. An exception that a listener raises ends the run as any error does: what is saved can be resumed.
    """

    def opened(self, directory: Path) -> None:
        """The run directory is open, before anything else happens in it."""

    def plan(self, steps: Sequence[Step]) -> None:
        """All stages of a whole run in their order, before the first one starts."""

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """A stage starts.

        Args:
            stage: its name, such as "search-teacher" or "train-student".
            epochs: its length.
            images: images of an epoch, of one member.
            members: size of the population; 0 outside a search.
            done: epochs that an earlier session has completed.
        """

    def batch(self, images: int) -> None:
        """`images` more images were trained on, by one member."""

    def beat(self) -> None:
        """Nothing has happened; called several times a second also while workers start and networks are evaluated."""

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """`epoch` epochs are complete; `values` by name: loss, accuracy (a fraction), lr, ..."""

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """A search has scored its members.

        Args:
            epoch: epochs that are complete.
            scores: validation accuracy of each member, a fraction; None for one that diverged.
            moves: pairs (target, source): member `target` was overwritten by a copy of `source`.
        """

    def finish(self, summary: str = "") -> None:
        """The stage is over; without a stage it does nothing."""

    def result(self, stage: str, values: dict[str, float]) -> None:
        """The figures of a stage that is over: `test_accuracy`, a fraction."""

    def note(self, text: str) -> None:
        """One line that a person should see: a warning, a file that was written."""


class Several(Progress):
    """Passes every call on to several listeners, in their order.

    Args:
        listeners: the listeners.
    """

    def __init__(self, *listeners: Progress) -> None:
        self.listeners = listeners

    def opened(self, directory: Path) -> None:
        """See `Progress.opened`."""
        for listener in self.listeners:
            listener.opened(directory)

    def plan(self, steps: Sequence[Step]) -> None:
        """See `Progress.plan`."""
        for listener in self.listeners:
            listener.plan(steps)

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """See `Progress.start`."""
        for listener in self.listeners:
            listener.start(stage, epochs=epochs, images=images, members=members, done=done)

    def batch(self, images: int) -> None:
        """See `Progress.batch`."""
        for listener in self.listeners:
            listener.batch(images)

    def beat(self) -> None:
        """See `Progress.beat`."""
        for listener in self.listeners:
            listener.beat()

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """See `Progress.epoch`."""
        for listener in self.listeners:
            listener.epoch(epoch, values)

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """See `Progress.scores`."""
        for listener in self.listeners:
            listener.scores(epoch, scores, moves)

    def finish(self, summary: str = "") -> None:
        """See `Progress.finish`."""
        for listener in self.listeners:
            listener.finish(summary)

    def result(self, stage: str, values: dict[str, float]) -> None:
        """See `Progress.result`."""
        for listener in self.listeners:
            listener.result(stage, values)

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        for listener in self.listeners:
            listener.note(text)
