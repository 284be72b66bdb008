"""What a run shows: plain lines word for word, the live picture by its parts."""

import errno
import io
import itertools
import math
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from rolewise.cli.display import LineProgress, LiveProgress, make_progress
from rolewise.cli.meter import Meter
from rolewise.cli.words import duration, packed, percent, ranked
from rolewise.errors import InputError
from rolewise.progress import CsvLog, Progress, Several, Step
from rolewise.runs import layout
from rolewise.runs.titles import stage_title
from rolewise.stages import TRAININGS


class Clock:
    """Seconds that pass on request."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_stream_decides() -> None:
    assert type(make_progress(quiet=True, stream=Terminal())) is Progress
    assert type(make_progress(stream=Terminal())) is LiveProgress
    assert type(make_progress(stream=io.StringIO())) is LineProgress
    several = make_progress(stream=io.StringIO(), logs=["csv"])
    assert isinstance(several, Several)
    assert [type(listener) for listener in several.listeners] == [LineProgress, CsvLog]
    with pytest.raises(InputError, match='Unknown log "cvs".*"csv", "tensorboard".*Did you mean "csv"'):
        make_progress(logs=["cvs"])


def test_lines_of_a_training() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = LineProgress(stream, clock)
    progress.note("run directory runs/x, seed 0")
    progress.start("train-teacher", epochs=4, images=1000, done=1)
    for epoch in (2, 3, 4):
        clock.now += 3
        progress.batch(500)
        clock.now += 3
        progress.batch(500)
        progress.epoch(epoch, {"epoch": epoch, "loss": 0.25, "accuracy": 0.912})
    progress.finish("kept")
    progress.finish()
    progress.result("train-teacher", {"test_accuracy": 0.9861})
    assert stream.getvalue().splitlines() == [
        "run directory runs/x, seed 0",
        "Teacher training: 4 epochs of 1,000 images, 1 of them done",
        "Teacher training: epoch 3 of 4: loss 0.25, accuracy 91.2 %; 167 images/s; 0:06 left",
        "Teacher training: epoch 4 of 4: loss 0.25, accuracy 91.2 %; 167 images/s; 0:00 left",
        "Teacher training: done, 0:18, 167 images/s, training accuracy 91.2 %, kept",
        "Teacher training: test accuracy 98.6 %",
    ]


def test_lines_of_a_search_that_is_stopped() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = LineProgress(stream, clock)
    progress.start("search-student", epochs=6, images=100, members=4)
    clock.now = 1.0
    progress.batch(400)
    clock.now = 2.0
    progress.batch(400)
    progress.scores(2, [0.5, None, 0.75, None], [(1, 2), (3, 2)])
    clock.now = 20.0
    progress.epoch(2, {"best": 0.75})  # says nothing that the scores did not say
    progress.finish()
    assert stream.getvalue().splitlines() == [
        "Student search: 4 members, 6 epochs of 100 images",
        "Student search: epoch 2 of 6: best 75.0 % (member 2), middle -, worst -; overwritten 1<-2 3<-2; "
        "400 images/s; 0:04 left",
        "Student search: stopped after epoch 2 of 6, 0:20, 40 images/s",
    ]


def test_a_long_epoch_is_never_silent() -> None:
    """One epoch of two minutes, its workers a minute late: a line every 30 s, from polls and from batches."""
    clock, stream = Clock(), io.StringIO()
    progress = LineProgress(stream, clock)
    progress.start("search-teacher", epochs=2, images=1000, members=4)
    said = [0.0]
    length = len(stream.getvalue())
    for second in range(1, 181):
        clock.now = float(second)
        if second < 60:
            progress.beat()
        else:
            progress.batch(10)
        if len(stream.getvalue()) > length:
            said.append(clock.now)
            length = len(stream.getvalue())
    assert max(later - earlier for earlier, later in itertools.pairwise(said)) <= 30
    lines = stream.getvalue().splitlines()
    assert lines[1] == "Teacher search: epoch 1 of 2: starting workers, 0:30"
    assert lines[3] == "Teacher search: epoch 1 of 2: 4 % of the stage; 10 images/s; 12:49 left"
    assert len(lines) == 7


def test_the_start_of_the_workers_is_no_part_of_the_rate() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.start("search-teacher", epochs=10, images=100, members=4)
    assert meter.speed() == ["starting workers"]
    clock.now = 60.0
    assert meter.speed() == ["starting workers, 1:00"]
    assert meter.left is None
    meter.batch(100)
    clock.now = 61.0
    meter.batch(100)
    assert meter.rate == 100
    assert meter.left == (4000 - 200) / 100


def test_the_rate_follows_the_last_epochs() -> None:
    """A machine that becomes ten times faster: the whole stage's mean would be far off."""
    clock = Clock()
    meter = Meter(clock)
    meter.start("train-teacher", epochs=40, images=1000)
    for epoch in range(1, 31):
        for _ in range(10):
            clock.now += 1.0 if epoch <= 10 else 0.1
            meter.batch(100)
        meter.epoch(epoch, {})
    assert meter.rate == pytest.approx(1000)
    assert meter.left == pytest.approx(10)
    assert meter.average == pytest.approx(30_000 / 120)


def test_a_pause_after_an_epoch_leaves_a_rate() -> None:
    """An evaluation of a minute: the rate falls, and is not lost."""
    clock = Clock()
    meter = Meter(clock)
    meter.start("train-teacher", epochs=3, images=200)
    for _ in range(2):
        meter.batch(100)
        clock.now += 10.0
    meter.epoch(1, {})
    clock.now += 60.0
    assert meter.rate == 100 / 80
    assert meter.speed()[0] == "1 images/s"


def test_the_whole_run_is_counted() -> None:
    """Searches take 10 images/s, trainings 100: what is to come is taken at the pace of its kind."""
    clock = Clock()
    meter = Meter(clock)
    stages = ("search-teacher", "train-teacher", "search-student", "train-student", "train-student-kd")
    meter.plan([Step(stage, 1000, done=stage == "search-teacher") for stage in stages])
    meter.start("train-teacher", epochs=1, images=1000)
    assert meter.place() == "stage 2 of 5"
    assert meter.left_of_all is None
    meter.batch(100)
    clock.now = 1.0
    meter.batch(100)
    assert meter.left == 8
    assert meter.left_of_all == 8 + 3 * 10  # nothing else is known yet
    assert meter.speed() == ["100 images/s", "0:08 left", "0:38 in all"]
    meter.epoch(1, {})
    meter.finish()
    meter.start("search-student", epochs=1, images=250, members=4)
    meter.batch(10)
    clock.now = 2.0
    meter.batch(10)
    assert meter.rate == 10
    meter.start("train-student-kd", epochs=1, images=1000)
    assert meter.place() == "stage 5 of 5"
    meter.batch(100)
    clock.now = 3.0
    meter.batch(100)
    assert meter.left_of_all is None  # the last one: the stage's own time says it all


def test_a_stage_that_follows_ends_the_one_before() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream, Clock())
    progress.start("a", epochs=1, images=1)
    progress.start("b", epochs=1, images=1)
    assert stream.getvalue().splitlines()[1] == "Training of a: stopped after epoch 0 of 1, 0:00"


def test_every_stage_of_a_run_has_a_name() -> None:
    stages = [training.stage for training in TRAININGS.values()]
    stages += [layout.search_stage(role) for role in ("teacher", "student")] + [layout.PREPARE, layout.TRAIN]
    titles = [stage_title(stage) for stage in stages]
    assert len(set(titles)) == len(stages) == 11
    assert not [title for title in titles if "-" in title or title.startswith("Training of")]
    assert stage_title("train-my-control") == "Training of my-control"


def test_a_reader_that_has_gone_stops_nothing() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream, Clock())
    stream.close()
    progress.note("nobody reads this")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "gone"), BrokenPipeError()])
def test_a_terminal_that_was_closed_stops_nothing(error: OSError) -> None:
    class Closed(Terminal):
        def write(self, text: str) -> int:
            raise error

    progress = make_progress(stream=Closed())
    assert isinstance(progress, LiveProgress)
    progress.start("search-teacher", epochs=2, images=100, members=4)
    progress.note("nobody reads this")
    for epoch in (1, 2):
        progress.scores(epoch, [0.5] * 4)
    progress.finish()
    progress.result("train-teacher", {"test_accuracy": 0.5})
    assert not progress.console._buffer  # nothing is kept to be written later


def live(width: int = 140) -> tuple[LiveProgress, Clock, Terminal]:
    stream, clock = Terminal(), Clock()
    return (
        LiveProgress(Console(file=stream, width=width, force_terminal=True, color_system=None), clock),
        clock,
        stream,
    )


def shown(progress: LiveProgress, width: int = 140) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(progress.picture())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_picture_of_a_search() -> None:
    progress, clock, stream = live()
    progress.plan([Step("search-teacher", 16_000), Step("train-teacher", 4_800)])
    progress.start("search-teacher", epochs=10, images=100, members=16)
    assert shown(progress)[0].endswith("  starting workers")
    progress.batch(1600)
    clock.now = 1.0
    progress.batch(1600)
    scores = [member / 20 for member in range(16)]
    progress.scores(2, [*scores[:15], None], [(0, 14), (15, 13)])
    head, first, second = shown(progress)
    assert head.startswith("stage 1 of 2  Teacher search  epoch 2 of 10  ━")
    assert head.endswith("  1,600 images/s, 0:08 left, 0:11 in all")
    assert " ".join(first.split()).startswith("0 0.0 % ←14 1 5.0 % 2 10.0 % 3 15.0 % 4 20.0 %")
    assert second.split()[-3:] == ["15", "-", "←13"]
    progress.finish()
    assert "‖ Teacher search: stopped after epoch 2 of 10, 0:01, 3,200 images/s" in stream.getvalue()


WIDTHS = (30, 40, 60, 80, 100, 140)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_of_a_picture_wraps(width: int) -> None:
    progress, clock, stream = live(width)
    stages = ("train-student-plain", "train-student-kd")
    progress.plan([Step(stage, 50_000 * 200) for stage in stages])
    for members, stage in ((0, stages[0]), (16, "search-teacher")):
        progress.start(stage, epochs=200, images=50_000, members=members)
        for _ in range(3):
            clock.now += 1.0
            progress.batch(12_345)
        progress.epoch(1, {"loss": 1.25, "accuracy": 0.5, "lr": 0.1, "validation_accuracy": 0.25})
        if members:
            progress.scores(1, [0.5] * members, [(member, 15) for member in range(members)])
        real = Console(file=io.StringIO(), width=width, color_system=None)
        lines = real.render_lines(progress.picture(), real.options, pad=False)
        assert all(cell_len("".join(segment.text for segment in line)) <= width for line in lines)
        text = "".join(segment.text for line in lines for segment in line)
        assert width < 40 or "…" not in text
        # In colors a bar is as wide as its room from the beginning.
        colors = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor")
        lines = colors.render_lines(progress.picture(), colors.options, pad=False)
        written = ["".join(segment.text for segment in line) for line in lines]
        speed = next(line for line in written if "images/s" in line)
        assert "━" not in speed or "epoch" in speed, "a bar without text shares its line with the speed"
    progress.finish()
    assert stream.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_stale_is_left_on_the_screen(width: int) -> None:
    """A recorded terminal: what a screen of this width shows after many pictures is the last one, alone."""
    progress, clock, stream = live(width)
    progress.plan([Step("search-teacher", 8_000), Step("train-teacher", 8_000)])
    progress.start("search-teacher", epochs=20, images=50, members=8)
    for epoch in range(1, 11):
        clock.now += 1.0
        progress.batch(400)
        progress.scores(epoch, [0.1 * member for member in range(8)], [(0, 7)])
    screen = screen_of(stream.getvalue(), width)
    assert sum("Teacher search" in line for line in screen) == 1
    assert sum("images/s" in line for line in screen) == 1
    assert [line for line in screen if line] == [line for line in shown(progress, width) if line]
    progress.finish()
    screen = [line for line in screen_of(stream.getvalue(), width) if line]
    assert screen[0].startswith("‖ Teacher search: stopped")
    assert not [line for line in screen if "━" in line]


def screen_of(text: str, width: int) -> list[str]:
    """The lines of a terminal that has got `text`: it wraps, returns, moves up and erases lines; colors are ignored."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", text, re.DOTALL):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
        elif token.startswith("\x1b["):
            number = int(re.sub(r"\D", "", token) or 1)
            if token.endswith("A"):
                row = max(0, row - number)
            elif token.endswith("K"):
                rows[row] = []
        else:
            if column == width:
                row, column = row + 1, 0
            while row >= len(rows):
                rows.append([])
            rows[row] += [" "] * (column + 1 - len(rows[row]))
            rows[row][column] = token
            column += 1
        while row >= len(rows):
            rows.append([])
    return ["".join(line).rstrip() for line in rows]


@pytest.mark.parametrize(("width", "rows"), [(140, 2), (80, 4), (40, 8), (20, 16)])
def test_sixteen_members_fit(width: int, rows: int) -> None:
    progress, _, stream = live(width)
    progress.start("search-teacher", epochs=10, images=100, members=16)
    progress.scores(2, [1.0] * 16, [(member, 15) for member in range(16)])
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(progress.population())
    lines = capture.get().splitlines()
    assert len(lines) == rows
    assert sum(line.count("100.0 % ←15") for line in lines) == 16
    progress.finish()
    assert stream.getvalue()


def test_the_picture_of_a_training_that_was_resumed() -> None:
    progress, clock, stream = live()
    progress.start("train-student", epochs=4, images=100, done=2)
    progress.batch(50)
    clock.now = 1.0
    progress.batch(50)
    progress.epoch(3, {"epoch": 3, "loss": 1.5, "accuracy": 0.5})
    head, values = shown(progress)
    assert head.startswith("Student training  epoch 3 of 4  ")
    assert head.endswith("50 images/s, 0:02 left")
    width = len(head) - len("Student training  epoch 3 of 4  " + "  50 images/s, 0:02 left")
    assert abs(head.count("━") / width - 3 / 4) < 0.02  # the epochs before it was resumed count
    assert values == "  loss 1.5, accuracy 50.0 %"
    progress.note("a [warning] with brackets")
    progress.epoch(4, {})
    progress.finish("91 %")
    progress.result("train-student", {"test_accuracy": 0.5})
    assert "✓ Student training: done, 0:01, 100 images/s, 91 %" in stream.getvalue()
    assert "  Student training: test accuracy 50.0 %" in stream.getvalue()
    assert "a [warning] with brackets" in stream.getvalue()


def test_words() -> None:
    times = [duration(seconds) for seconds in (0, 59.6, 725, 11229, 200_000)]
    assert times == ["0:00", "1:00", "12:05", "3:07:09", "2 d 7:33"]
    assert [percent(score) for score in (0.9127, 1, -math.inf, math.nan)] == ["91.3 %", "100.0 %", "-", "-"]
    assert ranked([0.5, None, math.nan, 0.75]) == [3, 0, 1, 2]
    assert packed(["aa", "", "bb", "cccccc"], 6) == ["aa, bb", "cccccc"]
