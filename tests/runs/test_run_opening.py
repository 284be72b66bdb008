"""`open_run`: a directory and a flag for signals, and a way to look without a lock."""

import os
import signal
from pathlib import Path

import pytest

from rolewise.errors import InputError, RunError
from rolewise.runs import RunDirectory, open_run


def test_a_signal_sets_the_flag_and_the_directory_is_closed_after(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with open_run(tmp_path / "a", {"seed": 1}) as opened:
        assert opened.directory is not None
        assert opened.directory.config == {"seed": 1}
        assert not opened.should_stop()
        with pytest.raises(RunError, match="is in use by"):
            RunDirectory.open(tmp_path / "a")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert opened.should_stop()
    assert signal.getsignal(signal.SIGUSR1) == before
    with open_run(tmp_path / "a", resume=True) as opened:
        assert opened.directory is not None
        assert opened.directory.config == {"seed": 1}
        assert not opened.should_stop()


def test_the_caller_may_ask_to_stop(tmp_path: Path) -> None:
    wanted: list[bool] = []
    with open_run(tmp_path / "a", {}, should_stop=lambda: bool(wanted)) as opened:
        assert not opened.should_stop()
        wanted.append(True)
        assert opened.should_stop()


def test_without_a_directory_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with open_run(None, should_stop=lambda: True) as opened:
        assert opened.directory is None
        assert opened.should_stop()
        assert signal.getsignal(signal.SIGTERM) == before
    with open_run(None) as opened:
        assert not opened.should_stop()


def test_what_is_there_is_not_made_again_and_what_is_not_is_not_resumed(tmp_path: Path) -> None:
    with open_run(tmp_path / "a", {}):
        pass
    with pytest.raises(InputError, match="already holds a run"), open_run(tmp_path / "a", {}):
        pass
    for choice in ({"resume": True}, {"read_only": True}):
        with pytest.raises(InputError, match="is not a run directory"), open_run(tmp_path / "b", **choice):
            pass
    assert not (tmp_path / "b").exists()


def test_resuming_needs_a_directory() -> None:
    with pytest.raises(InputError, match="`resume` needs `out`"), open_run(None, resume=True):
        pass


def test_read_only_takes_no_lock_and_writes_nothing(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "a", {"seed": 1}) as writer:
        writer.append_metrics(epoch=1)
        writer.write_json("results.json", {"rows": []})
        content = {path.name: path.read_bytes() for path in writer.path.iterdir()}
        with open_run(writer.path, read_only=True) as opened:
            run = opened.directory
            assert run is not None
            assert run.read_only
            assert not writer.read_only
            assert run.config == {"seed": 1}
            assert run.read_json("results.json") == {"rows": []}
            assert not run.done("train")
            assert run.checkpoints("train").latest() is None
            for write in (
                lambda: run.append_metrics(epoch=2),
                lambda: run.append_lineage(epoch=2),
                lambda: run.write_json("results.json", {}),
                lambda: run.update_config({}),
                lambda: run.mark_done("train"),
                lambda: run.rewind(),
                lambda: run.marks(),
            ):
                with pytest.raises(InputError, match="was opened to be read only, so .* cannot be written"):
                    write()
        assert {path.name: path.read_bytes() for path in writer.path.iterdir()} == content
        writer.append_metrics(epoch=2)  # the lock is still the writer's
