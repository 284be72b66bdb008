"""What a run says while it works. Library code calls a `Progress`; the command line shows it."""

from collections.abc import Sequence


class Progress:
    """Receives a run's progress and shows nothing. Subclasses show it."""

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """A stage begins: `images` per epoch (of one member), `members` 0 outside a search, `done` epochs behind it."""

    def batch(self, images: int) -> None:
        """`images` more images were trained on (by one member)."""

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """`epoch` epochs are complete; `values` by name (loss, accuracy, ...)."""

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """A search scored all members after `epoch` epochs (None: no score); `moves` are (target, source)."""

    def finish(self, summary: str = "") -> None:
        """The stage is over."""

    def note(self, text: str) -> None:
        """One line that a person should see (a warning, a file that was written)."""
