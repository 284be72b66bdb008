"""How a command ends: one line and a status, whatever happens, from the first line of `main` on."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from rolewise.cli.outcome import outcome, printable
from rolewise.errors import InputError, Interrupted, RunError


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (InputError("`x` is wrong"), 2, "rolewise: error: `x` is wrong"),
        (RunError("no"), 1, "rolewise: failed: no"),
        (Interrupted("stopped"), 75, "rolewise: interrupted: stopped"),
        (KeyboardInterrupt(), 75, "rolewise: interrupted: by a signal; give the same command again"),
        (SystemExit(2), 2, ""),
        (SystemExit(None), 0, ""),
        (
            OSError(28, "No space left on device", "x/y"),
            1,
            "failed: No space left on device: x/y. The details are",
        ),
        (
            ZeroDivisionError("by zero"),
            1,
            "an error that rolewise does not foresee, ZeroDivisionError: by zero",
        ),
    ],
)
def test_every_end_has_a_status_and_one_line(
    error: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(raising(error)) == status
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == bool(words)
    assert "Traceback" not in shown


def test_an_unforeseen_error_leaves_its_traceback_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(raising(ValueError("odd"))) == 1
    path = Path(re.search(r"details are in (\S+)", capsys.readouterr().err)[1])
    try:
        assert "ValueError: odd" in path.read_text("utf-8")
    finally:
        path.unlink()


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line_without_the_place_in_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        warnings.warn("1 file is left out", stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    shown = warnings.showwarning
    with pytest.warns(DeprecationWarning, match="old"):
        assert outcome(command) == 0
    assert capsys.readouterr().err == "rolewise: warning: 1 file is left out\n"
    assert warnings.showwarning is shown


def test_messages_carry_nothing_that_a_terminal_obeys() -> None:
    assert printable("a\x1b[31mred\x07\u202e\n\tb") == "a\ufffd[31mred\ufffd\ufffd\n\tb"
    assert len(printable("x" * 200_000)) < 5000


def started(code: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("amid", ["importing", "working"])
def test_signals_before_a_run_is_open(number: signal.Signals, amid: str, tmp_path: Path) -> None:
    """A batch system starts the job again at 75 alone; an import that is interrupted must not be half done."""
    (tmp_path / "slow_module.py").write_text(
        "import time\nprint('ready')\ntry:\n    time.sleep(30)\nexcept BaseException:\n    pass\n"
    )
    work = "import slow_module" if amid == "importing" else "print('ready'); import time; time.sleep(30)"
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from rolewise.cli.outcome import outcome
def command():
    {work}
sys.exit(outcome(command))
"""
    process = started(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (
        75,
        "rolewise: interrupted: by a signal; give the same command again\n",
    )


def test_a_reader_that_has_gone() -> None:
    with started(
        "import sys; from rolewise.cli.outcome import outcome\n"
        "sys.exit(outcome(lambda: [print('x' * 1000) for _ in range(1000)]))"
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
        assert (process.wait(timeout=20), errors) == (1, "")


def test_closed_streams() -> None:
    code = "import sys; from rolewise.cli import main; sys.exit(main(['schedule', 'show', 'nowhere.json']))"
    run = subprocess.run(["sh", "-c", f'{sys.executable} -c "{code}" >&- 2>&-'], timeout=60, check=False)
    assert run.returncode == 2


def test_a_signal_that_a_command_ignores_to_its_end_stays_ignored():
    """Such as SIGTERM in a process that torchrun started: it comes when another one has ended."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    try:
        assert outcome(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGUSR1) == before[1]
    finally:
        signal.signal(signal.SIGTERM, before[0])
    assert outcome(lambda: None) == 0
    assert signal.getsignal(signal.SIGTERM) == before[0]
