"""How a run shows its progress: a live picture in a terminal, plain lines elsewhere. All of it goes to stderr."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rolewise.cli.meter import Meter
from rolewise.cli.words import copied, named, packed, percent, ranked, spread
from rolewise.errors import InputError, unknown
from rolewise.progress import CsvLog, Progress, Several, TensorBoardLog
from rolewise.runs.titles import stage_title

_REFRESH = 0.15  # seconds between two pictures at least
_LINE = 10.0  # seconds between two plain lines of epochs at least
_SILENCE = 30.0  # seconds between two plain lines at most
_CELL = 14  # characters for one member
_BAR = 12  # characters of a bar at least
LOGS: dict[str, Callable[[], Progress]] = {"csv": CsvLog, "tensorboard": TensorBoardLog}


def make_progress(*, quiet: bool = False, stream: TextIO | None = None, logs: Sequence[str] = ()) -> Progress:
    """The display that suits `stream` (stderr): live in a terminal, lines otherwise, nothing when `quiet`.

    Args:
        quiet: True shows nothing.
        stream: output stream; stderr by default.
        logs: "csv", "tensorboard": logs that are kept in the run directory besides.

    Raises:
        InputError: a log of another name.
        MissingExtraError: tensorboard is not installed.
    """
    for name in logs:
        if name not in LOGS:
            raise InputError(unknown("log", name, LOGS))
    stream = stream or sys.stderr
    if quiet:
        shown = Progress()
    elif stream.isatty():
        shown = LiveProgress(Console(file=cast(TextIO, _Terminal(stream))))
    else:
        shown = LineProgress(stream)
    return Several(shown, *(LOGS[name]() for name in logs)) if logs else shown


class _Terminal:
    """A terminal that may be closed before the run has ended: what it cannot take is lost, and nothing else.

    rich would end the process, or keep every picture that it could not write.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class LineProgress(Meter):
    """Plain lines, for files and pipes: one when something is decided, few in between, never silent for long."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.stream = stream
        self._last = -math.inf

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """Says what begins."""
        super().start(stage, epochs=epochs, images=images, members=members, done=done)
        who = f"{members} members, " if members else ""
        behind = f", {done} of them done" if done else ""
        self._say(f"{self._head()}: {who}{epochs} epoch{'s' * (epochs != 1)} of {images:,} images{behind}")

    def batch(self, images: int) -> None:
        """Counts; says how far the stage is if nothing was said for long."""
        super().batch(images)
        self.beat()

    def beat(self) -> None:
        """Says how far the stage is if nothing was said for long."""
        if self.stage is not None and self.clock() - self._last >= _SILENCE:
            share = (
                f"{100 * min(1, self.count / max(1, self.total)):.0f} % of the stage" if self.count else ""
            )
            self._say(
                _join(
                    f"{self._head()}: epoch {min(self.now + 1, self.epochs)} of {self.epochs}",
                    share,
                    *self.speed(),
                )
            )

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Says how an epoch went, but not too often."""
        said = self.now == epoch and bool(self.ranking)
        super().epoch(epoch, values)
        if said:  # the scores of this epoch stand there already
            return
        if epoch >= self.epochs or self.clock() - self._last >= _LINE:
            self._say(_join(f"{self._head()}: epoch {epoch} of {self.epochs}", named(values), *self.speed()))

    def scores(
        self, epoch: int, scores: Sequence[float | None], moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Says who leads, and who was overwritten by whom."""
        super().scores(epoch, scores, moves)
        self._say(
            _join(
                f"{self._head()}: epoch {epoch} of {self.epochs}",
                spread(self.ranking),
                copied(moves),
                *self.speed(),
            )
        )

    def finish(self, summary: str = "") -> None:
        """Says that the stage is over, and how long it took."""
        if self.stage is not None:
            self._say(", ".join(self.ending(summary)))
        super().finish(summary)

    def result(self, stage: str, values: dict[str, float]) -> None:
        """Says the figures."""
        self._say(f"{stage_title(stage)}: {named(values)}")

    def note(self, text: str) -> None:
        """Says it."""
        self._say(text)

    def _head(self) -> str:
        return f"{self.place()}, {self.title()}" if self.place() else self.title()

    def _say(self, text: str) -> None:
        self._last = self.clock()
        with suppress(OSError, ValueError):  # the reader of the lines has ended; the run has not
            print(text, file=self.stream, flush=True)


class LiveProgress(Meter):
    """A picture that is redrawn in place: bar, epoch, speed, time left, and the population.

    It has as many columns as the terminal: a line that wraps would be left behind at the next picture.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.console = console
        self._live: Live | None = None
        self._last = -math.inf

    def start(self, stage: str, *, epochs: int, images: int, members: int = 0, done: int = 0) -> None:
        """Starts a new picture."""
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

    def beat(self) -> None:
        """Shows the seconds that have passed."""
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
            mark = "✓ " if self.now >= self.epochs else "‖ "
            self.console.print(Text(mark + ", ".join(self.ending(summary))))
            if self.ranking:
                self.console.print(Padding(self.population(), (0, 0, 0, 2)))
        super().finish(summary)

    def result(self, stage: str, values: dict[str, float]) -> None:
        """Leaves the figures below the line of their stage."""
        self.console.print(Text(f"  {stage_title(stage)}: {named(values)}"))

    def note(self, text: str) -> None:
        """Prints it above the picture."""
        self.console.print(Text(text, style="dim"))

    def picture(self) -> RenderableType:
        """What is shown now: one line with the bar in it where there is room, else several."""
        width, place = self.console.width, self.place()
        epoch = f"epoch {self.now} of {self.epochs}"
        speed = self.speed()
        behind = self.done * self.images * max(1, self.members)
        total, completed = max(1, behind + self.total), behind + min(self.count, self.total)
        left, right = "  ".join(filter(None, (place, self.title(), epoch))), ", ".join(speed)
        room = width - len(left) - len(right) - 4
        parts: list[RenderableType] = []
        if room >= _BAR:
            bar = ProgressBar(total=total, completed=completed, width=room)
            parts.append(_row(self._bold(left), bar, Text(right)))
        else:
            parts += [self._bold(line) for line in packed((place, self.title(), epoch), width, "  ")]
            parts.append(_row(ProgressBar(total=total, completed=completed, width=width)))
            parts += [_line(line) for line in packed(speed, width)]
        if self.ranking:
            parts.append(Padding(self.population(), (0, 0, 0, 2)))
        elif self.values:
            values = packed(named(self.values).split(", "), width - 2)
            parts += [_line(f"  {line}", "dim") for line in values]
        return Group(*parts)

    def _bold(self, line: str) -> Text:
        text = _line(line)
        text.highlight_words([self.title()], "bold")
        return text

    def population(self) -> RenderableType:
        """Each member with its score; those that were just overwritten say by whom."""
        sources = dict(self.moves)
        order = ranked(self.ranking)
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


def _row(*parts: RenderableType) -> Table:
    """Parts beside each other. A bar needs it even alone: by itself it does not end its line."""
    row = Table.grid(padding=(0, 2))
    row.add_row(*parts)
    return row


def _line(text: str, style: str = "") -> Text:
    """One line that is cut rather than wrapped."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _join(head: str, *parts: str) -> str:
    return f"{head}: " + "; ".join(part for part in parts if part) if any(parts) else head
