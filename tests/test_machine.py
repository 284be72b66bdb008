"""The stopwatch that leaves other programs out, and lengths of time in words."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rolewise import _machine
from rolewise._machine import Stopwatch, cores, in_words


def test_sleep_counts():
    watch = Stopwatch()
    time.sleep(0.3)
    assert 0.25 <= watch.undisturbed <= watch.wall


def work(seconds: float) -> None:
    begun = time.thread_time()
    while time.thread_time() - begun < seconds:
        sum(range(1000))


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").is_file(), reason="this system does not count how long a thread waits"
)
def test_the_share_of_other_programs_does_not_count():
    """Twice as many busy processes as cores: work of half a second takes longer, and is measured as half a second."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * cores())]
    try:
        time.sleep(0.5)
        watch, begun = Stopwatch(), time.perf_counter()
        work(0.5)
        wall, undisturbed, clock = watch.wall, watch.undisturbed, time.perf_counter() - begun
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert wall == pytest.approx(clock, abs=0.1)
    if clock < 0.75:  # not what the stopwatch says: a broken one must fail
        pytest.skip(f"the clock says {clock:.2f} s: other programs did not disturb")
    assert undisturbed == pytest.approx(0.5, rel=0.2)


def test_the_wait_of_an_idle_thread_does_not_hide_work(monkeypatch):
    watch = Stopwatch()
    monkeypatch.setattr(_machine, "_waited", lambda: {"another": 1e6})
    work(0.2)
    assert 0.2 <= watch.undisturbed <= watch.wall


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"), (89, "89 s"), (192, "3.2 min"), (1860, "31 min"), (5399, "90 min"), (103_000, "28.6 hours"),
        (129_600, "1.5 days"), (13_637_880, "157.8 days"),
    ],
)  # fmt: skip
def test_lengths_of_time(seconds, words):
    assert in_words(seconds) == words
