"""What a run shows: plain lines word for word, the live picture by its parts."""

import io
import math

import pytest
from rich.console import Console

from rolewise.cli.display import LineProgress, LiveProgress, duration, make_progress, percent
from rolewise.progress import Progress


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


def test_lines_of_a_training() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = LineProgress(stream, clock)
    progress.note("run directory runs/x, seed 0")
    progress.start("train-teacher", epochs=4, images=1000, done=1)
    for epoch in (2, 3, 4):
        clock.now += 6
        progress.batch(600)
        progress.batch(400)
        progress.epoch(epoch, {"epoch": epoch, "loss": 0.25, "accuracy": 0.912})
    progress.finish("tested")
    progress.finish()
    assert stream.getvalue().splitlines() == [
        "run directory runs/x, seed 0",
        "train-teacher: 4 epochs of 1,000 images, 1 of them done",
        "train-teacher: epoch 3 of 4: loss 0.25, accuracy 91.2 %; 167 images/s, 0:06 left",
        "train-teacher: epoch 4 of 4: loss 0.25, accuracy 91.2 %; 167 images/s, 0:00 left",
        "train-teacher: done, 0:18, 167 images/s, tested",
    ]


def test_lines_of_a_search_that_is_stopped() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = LineProgress(stream, clock)
    progress.start("search-student", epochs=6, images=100, members=4)
    clock.now = 2.0
    progress.batch(800)
    progress.scores(2, [0.5, None, 0.75, None], [(1, 2), (3, 2)])
    clock.now = 60.0
    progress.epoch(2, {"best": 0.75})  # says nothing that the scores did not say
    clock.now = 2.0
    progress.finish()
    assert stream.getvalue().splitlines() == [
        "search-student: 4 members, 6 epochs of 100 images",
        "search-student: epoch 2 of 6: best 75.0 % (member 2), middle -, worst -; overwritten 1<-2 3<-2; "
        "400 images/s, 0:04 left",
        "search-student: stopped after epoch 2 of 6, 0:02, 400 images/s",
    ]


def test_a_stage_that_follows_ends_the_one_before() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream, Clock())
    progress.start("a", epochs=1, images=1)
    progress.start("b", epochs=1, images=1)
    assert stream.getvalue().splitlines()[1] == "a: stopped after epoch 0 of 1, 0:00"


def test_a_reader_that_has_gone_stops_nothing() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream, Clock())
    stream.close()
    progress.note("nobody reads this")


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
    progress.start("search-teacher", epochs=10, images=100, members=16)
    clock.now = 1.0
    progress.batch(3200)
    scores = [member / 20 for member in range(16)]
    progress.scores(2, [*scores[:15], None], [(0, 14), (15, 13)])
    head, first, second = shown(progress)
    assert head.startswith("search-teacher  epoch 2/10  ")
    assert head.endswith("3,200 images/s, 0:04 left")
    assert " ".join(first.split()).startswith("0 0.0 % ←14 1 5.0 % 2 10.0 % 3 15.0 % 4 20.0 %")
    assert second.split()[-3:] == ["15", "-", "←13"]
    progress.finish()
    assert "‖ search-teacher: stopped after epoch 2 of 10, 0:01, 3,200 images/s" in stream.getvalue()


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
    clock.now = 1.0
    progress.batch(100)
    progress.epoch(3, {"epoch": 3, "loss": 1.5, "accuracy": 0.5})
    head, values = shown(progress)
    assert head.startswith("train-student  epoch 3/4  ")
    assert head.endswith("100 images/s, 0:01 left")
    width = len(head) - len("train-student  epoch 3/4  " + "  100 images/s, 0:01 left")
    assert abs(head.count("━") / width - 3 / 4) < 0.02  # the epochs before it was resumed count
    assert values == "  loss 1.5, accuracy 50.0 %"
    progress.note("a [warning] with brackets")
    progress.epoch(4, {})
    progress.finish("91 %")
    assert "✓ train-student: done, 0:01, 100 images/s, 91 %" in stream.getvalue()
    assert "a [warning] with brackets" in stream.getvalue()


def test_words() -> None:
    assert [duration(seconds) for seconds in (0, 59.6, 725, 11229)] == ["0:00", "1:00", "12:05", "3:07:09"]
    assert [percent(score) for score in (0.9127, 1, -math.inf, math.nan)] == ["91.3 %", "100.0 %", "-", "-"]
