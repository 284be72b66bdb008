"""How a run shows its progress: a live picture in a terminal, plain lines elsewhere. All of it goes to stderr."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rolewise.progress import Progress

_REFRESH = 0.15  # seconds between two pictures at least
_LINE = 10.0  # seconds between two plain lines of epochs at least
_CELL = 14  # characters for one member


def make_progress(*, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """The display that suits `stream` (stderr): live in a terminal, lines otherwise, nothing when `quiet`."""
    if quiet:
        return Progress()
    stream = stream or sys.stderr
    if stream.isatty():
        return LiveProgress(Console(file=stream))
    return LineProgress(stream)


class Meter(Progress):
    """Counts what a stage has done, and estimates what is left of it.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stage: str | None = None
        self.epochs = self.images = self.members = self.done = self.now = 0
        self.count = self.total = 0  # images of this stage, of all members, since it was started or resumed
        self.began = 0.0
        self.values: dict[str, float] = {}
        self.ranking: list[float | None] = []
        self.moves: list[tuple[int, int]] = []

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """See `Progress.start`."""
        if self.stage is not None:
            self.finish()
        self.stage, self.epochs, self.images, self.members = stage, epochs, images, members
        self.done = self.now = done
        self.count, self.total = 0, (epochs - done) * images * max(1, members)
        self.began = self.clock()
        self.values, self.ranking, self.moves = {}, [], []

    def batch(self, images: int) -> None:
        """See `Progress.batch`."""
        self.count += images

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """See `Progress.epoch`."""
        self.now, self.values = epoch, dict(values)

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """See `Progress.scores`."""
        self.now, self.ranking, self.moves = epoch, list(scores), list(moves)

    def finish(self, summary: str = "") -> None:
        """See `Progress.finish`."""
        self.stage = None

    @property
    def seconds(self) -> float:
        """Since the stage was started or resumed."""
        return self.clock() - self.began

    @property
    def rate(self) -> float:
        """Images per second, of all members together; 0 before there is anything to tell."""
        return self.count / self.seconds if self.count and self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the stage is over, if it goes on as it did; None if not known yet."""
        return max(0, self.total - self.count) / self.rate if self.rate else None

    def speed(self) -> str:
        """The rate and what is left, in words."""
        if not self.rate:
            return ""
        words = f"{self.rate:,.0f} images/s"
        return words if self.left is None else f"{words}, {duration(self.left)} left"

    def ending(self, summary: str) -> str:
        """What is said when a stage is over, or is left before its end."""
        state = "done" if self.now >= self.epochs else f"stopped after epoch {self.now} of {self.epochs}"
        words = [f"{self.stage}: {state}", duration(self.seconds)]
        if self.rate:
            words.append(f"{self.rate:,.0f} images/s")
        return ", ".join([*words, summary] if summary else words)


class LineProgress(Meter):
    """Plain lines, for files and pipes: one when something is decided, few in between."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.stream = stream
        self._last = -math.inf

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """Says what begins."""
        super().start(stage, epochs=epochs, images=images, members=members, done=done)
        self._last = self.clock()
        who = f"{members} members, " if members else ""
        behind = f", {done} of them done" if done else ""
        self._say(f"{stage}: {who}{epochs} epochs of {images:,} images{behind}")

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Says how an epoch went, but not too often."""
        said = self.now == epoch and bool(self.ranking)
        super().epoch(epoch, values)
        if said:  # the scores of this epoch stand there already
            return
        if epoch >= self.epochs or self.clock() - self._last >= _LINE:
            self._last = self.clock()
            self._say(_join(f"{self.stage}: epoch {epoch} of {self.epochs}", named(values), self.speed()))

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Says who leads, and who was overwritten by whom."""
        super().scores(epoch, scores, moves)
        self._last = self.clock()
        said = copied(moves)
        self._say(
            _join(f"{self.stage}: epoch {epoch} of {self.epochs}", spread(self.ranking), said, self.speed())
        )

    def finish(self, summary: str = "") -> None:
        """Says that the stage is over, and how long it took."""
        if self.stage is not None:
            self._say(self.ending(summary))
        super().finish(summary)

    def note(self, text: str) -> None:
        """Says it."""
        self._say(text)

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError):  # whoever read the lines is gone; the run is not
            print(text, file=self.stream, flush=True)


class LiveProgress(Meter):
    """A picture that is drawn anew in place: bar, epoch, speed, time left, and the population."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.console = console
        self._live: Live | None = None
        self._last = -math.inf

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """Begins a new picture."""
        super().start(stage, epochs=epochs, images=images, members=members, done=done)
        # Drawn from here, not from a thread of its own: worker processes may be forked off at any time.
        self._live = Live(
            self.picture(), console=self.console, auto_refresh=False, transient=True, redirect_stderr=False
        )
        self._live.start(refresh=True)

    def batch(self, images: int) -> None:
        """Counts."""
        super().batch(images)
        self._draw()

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Shows the epoch's values."""
        super().epoch(epoch, values)
        self._draw()

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Shows the population."""
        super().scores(epoch, scores, moves)
        self._draw(now=True)

    def finish(self, summary: str = "") -> None:
        """Leaves one line, and the population as it ended, in place of the picture."""
        if self.stage is not None:
            if self._live is not None:
                self._live.stop()
                self._live = None
            self.console.print(
                Text.assemble(("✓ " if self.now >= self.epochs else "‖ "), self.ending(summary))
            )
            if self.ranking:
                self.console.print(Padding(self.population(), (0, 0, 0, 2)))
        super().finish(summary)

    def note(self, text: str) -> None:
        """Prints it above the picture."""
        self.console.print(Text(text, style="dim"))

    def picture(self) -> RenderableType:
        """What is shown now."""
        head = Table.grid(padding=(0, 2), expand=True)
        for ratio, justify in ((None, "left"), (None, "left"), (1, "left"), (None, "right")):
            head.add_column(ratio=ratio, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        behind = self.done * self.images * max(1, self.members)
        bar = ProgressBar(total=max(1, behind + self.total), completed=behind + min(self.count, self.total))
        head.add_row(
            Text(str(self.stage), style="bold"), f"epoch {self.now}/{self.epochs}", bar, Text(self.speed())
        )
        parts: list[RenderableType] = [head]
        if self.ranking:
            parts.append(Padding(self.population(), (0, 0, 0, 2)))
        elif self.values:
            parts.append(Padding(Text(named(self.values), style="dim"), (0, 0, 0, 2)))
        return Group(*parts)

    def population(self) -> RenderableType:
        """Each member with its score; those that were just overwritten say by whom."""
        sources = dict(self.moves)
        order = sorted(range(len(self.ranking)), key=lambda i: (-_rank(self.ranking[i]), i))
        top = set(order[: max(1, len(order) // 4)])
        room = (self.console.width - 2) // (_CELL + 2)
        columns = next((even for even in (8, 4, 2) if even <= room), 1)
        grid = Table.grid(padding=(0, 2))
        cells = []
        for member, score in enumerate(self.ranking):
            style = "bold green" if member == order[0] else "green" if member in top else ""
            cell = Text(f"{member:>2} {percent(score):>6}", style="red" if member in sources else style)
            cells.append(cell.append(f" ←{sources[member]}" if member in sources else ""))
        for first in range(0, len(cells), columns):
            grid.add_row(*cells[first : first + columns])
        return grid

    def _draw(self, *, now: bool = False) -> None:
        if self._live is not None and (now or self.clock() - self._last >= _REFRESH):
            self._last = self.clock()
            self._live.update(self.picture(), refresh=True)


def duration(seconds: float) -> str:
    """Seconds as `0:42`, `12:05` or `3:07:09`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def percent(score: float | None) -> str:
    """A fraction in percent; a member that diverged has none."""
    return "-" if score is None or not math.isfinite(score) else f"{100 * score:.1f} %"


def named(values: dict[str, float]) -> str:
    """Values by name; fractions in percent."""
    shown = []
    for name, value in values.items():
        if name != "epoch" and isinstance(value, int | float):
            text = percent(value) if "accuracy" in name else f"{value:.4g}"
            shown.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(shown)


def spread(scores: Sequence[float | None]) -> str:
    """The best, middle and worst of a population."""
    if not scores:
        return ""
    order = sorted(range(len(scores)), key=lambda i: (-_rank(scores[i]), i))
    best, middle, worst = (percent(scores[i]) for i in (order[0], order[len(order) // 2], order[-1]))
    return f"best {best} (member {order[0]}), middle {middle}, worst {worst}"


def copied(moves: Sequence[tuple[int, int]]) -> str:
    """Who was overwritten by whom."""
    return f"overwritten {' '.join(f'{target}<-{source}' for target, source in moves)}" if moves else ""


def _rank(score: float | None) -> float:
    return -math.inf if score is None else score


def _join(head: str, *parts: str) -> str:
    return f"{head}: " + "; ".join(part for part in parts if part) if any(parts) else head
