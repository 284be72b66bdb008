"""How a command ends: its exit status and its last line, whatever happens from the first line of `main` on."""

import os
import re
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rolewise.errors import InputError, Interrupted, RunError

DONE, FAILED, BAD_INPUT, RESUMABLE = 0, 1, 2, 75
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# A run that was at work says itself where it is resumed.
_AGAIN = "by a signal; give the same command again"
_LONGEST = 4000  # characters of a message
# What a terminal would obey: control characters but newline and tab, and those that turn the direction of a line.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Stopped(BaseException):
    """A signal came; not KeyboardInterrupt, which the command line's parser turns into a status of its own."""


def outcome(command: Callable[[], object]) -> int:
    """Runs a command and returns its exit status; what went wrong becomes one message on stderr.

    0 done, 1 failed, 2 bad input, 75 interrupted and resumable. An unexpected error leaves its traceback in a
    file that the message names.
    """
    _streams()
    try:
        with _signals(), _plain_warnings():
            command()
            sys.stdout.flush()
    except SystemExit as end:
        return _status(end)
    except InputError as error:
        return say("error", error, BAD_INPUT)
    except RunError as error:
        return say("failed", error, FAILED)
    except Interrupted as error:
        return say("interrupted", error, RESUMABLE)
    except (_Stopped, KeyboardInterrupt):
        return say("interrupted", _AGAIN, RESUMABLE)
    except BrokenPipeError:
        # The reader of the output has ended, such as `head`: there is nowhere left to print.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return say("failed", f"{error.strerror or error}{where}{_kept(error)}", FAILED)
    except Exception as error:
        return say(
            "failed",
            f"an error that rolewise does not foresee, {type(error).__name__}: {error}{_kept(error)}",
            FAILED,
        )
    return DONE


def say(kind: str, message: object, status: int) -> int:
    """Prints a line of the command itself to stderr, mostly its last, and returns the exit status it is given."""
    with suppress(OSError, ValueError):  # stderr is closed
        print(f"rolewise: {kind}: {printable(str(message))}", file=sys.stderr)
    return status


def printable(text: str) -> str:
    """`text` without control characters, and shortened to a readable length."""
    text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"


def _status(end: SystemExit) -> int:
    if end.code is None:
        return DONE
    return end.code if isinstance(end.code, int) else FAILED


def _kept(error: BaseException) -> str:
    """Where the traceback lies, as the end of a message."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="rolewise-", suffix=".log", delete=False
        ) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return ""
    return f". The details are in {file.name}"


def _streams() -> None:
    """Gives a command streams to print to where its starter has closed them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the whole process


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Within the context what a user is warned of is one line without the place in the source."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if category is UserWarning:
            say("warning", message, DONE)
        else:
            shown(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


@contextmanager
def _signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGUSR1 end a command with status 75 until a run takes them over (`rolewise.runs.StopFlag`).

    By default the latter two end a process with another status, so that a batch system would not start it again; and
    KeyboardInterrupt during an import is lost, or leaves a package half loaded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # A process that torchrun started ignores the signal of one that ended before it, up to its own end.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(say("interrupted", _AGAIN, RESUMABLE))
        frame = frame.f_back
    raise _Stopped
