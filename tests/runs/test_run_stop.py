"""Signals: the first sets a flag, the second ends the process."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from rolewise.errors import Interrupted
from rolewise.runs import RESUMABLE, StopFlag

TWICE = """
import os, signal, sys
from rolewise.runs import StopFlag
with StopFlag() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested
    print("flagged", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("not reached", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_sets_the_flag(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopFlag() as stop:
        assert not stop.requested
        stop.raise_if_set()
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop()
        with pytest.raises(Interrupted, match=f"stopped by {number.name}"):
            stop.raise_if_set()
    assert signal.getsignal(number) is before


def test_the_second_signal_exits_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (75, "flagged\n"), done.stderr
    assert RESUMABLE == 75


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def work() -> None:
        with StopFlag() as stop:
            during.append((signal.getsignal(signal.SIGTERM), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [(before, False)]
    assert signal.getsignal(signal.SIGTERM) is before
