"""Listeners: several as one, the CSV log, TensorBoard's events, and what `train` and `search` call."""

import csv
import inspect
import time
from pathlib import Path

import pytest

import rolewise as rw
from rolewise import networks
from rolewise.errors import InputError, MissingExtraError
from rolewise.progress import CsvLog, Progress, Several, Step, TensorBoardLog

HOOKS = [name for name, _ in inspect.getmembers(Progress, inspect.isfunction) if not name.startswith("_")]


class Recorder(Progress):
    """Every call, by name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []

    def __getattribute__(self, name: str):
        if name in HOOKS:
            signature = inspect.signature(getattr(Progress, name))

            def call(*given, **named):
                bound = signature.bind(self, *given, **named)
                bound.apply_defaults()
                self.calls.append((name, bound.args[1:], bound.kwargs))

            return call
        return super().__getattribute__(name)


def everything(listener: Progress, directory: Path) -> None:
    """A small run, as its stages call it."""
    listener.opened(directory)
    listener.plan([Step("search-teacher", 100), Step("train-teacher", 100)])
    listener.start("search-teacher", epochs=2, images=10, members=4)
    listener.batch(10)
    listener.beat()
    listener.scores(2, [0.5, None, 0.75, 0.25], [(3, 2)])
    listener.epoch(2, {"best": 0.75})
    listener.finish("over")
    listener.start("train-teacher", epochs=1, images=10)
    listener.epoch(1, {"epoch": 1, "loss": 1.5, "accuracy": 0.25, "validation_accuracy": 0.125})
    listener.finish()
    listener.result("train-teacher", {"test_accuracy": 0.375})
    listener.note("done")


def test_several_pass_every_call_on(tmp_path: Path) -> None:
    first, second, alone = Recorder(), Recorder(), Recorder()
    everything(Several(first, second), tmp_path)
    everything(alone, tmp_path)
    assert first.calls == second.calls == alone.calls
    assert {name for name, _, _ in alone.calls} == set(HOOKS)


def test_the_csv_log(tmp_path: Path) -> None:
    everything(CsvLog(), tmp_path)
    rows = list(csv.DictReader((tmp_path / "progress.csv").read_text("utf-8").splitlines()))
    assert list(rows[0]) == ["time", "stage", "epoch", "member", "name", "value"]
    assert [tuple(row.values())[1:] for row in rows] == [
        ("search-teacher", "2", "0", "score", "0.5"),
        ("search-teacher", "2", "2", "score", "0.75"),
        ("search-teacher", "2", "3", "score", "0.25"),
        ("search-teacher", "2", "3", "overwritten_by", "2"),
        ("search-teacher", "2", "", "best", "0.75"),
        ("train-teacher", "1", "", "loss", "1.5"),
        ("train-teacher", "1", "", "accuracy", "0.25"),
        ("train-teacher", "1", "", "validation_accuracy", "0.125"),
        ("train-teacher", "", "", "test_accuracy", "0.375"),
    ]
    everything(CsvLog(tmp_path / "progress.csv"), tmp_path)  # a resumed run continues its file
    assert len((tmp_path / "progress.csv").read_text("utf-8").splitlines()) == 1 + 2 * 9


def test_the_csv_log_grows_while_the_run_works(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "new" / "log.csv")
    log.start("train", epochs=2, images=1)
    for epoch in (1, 2):
        log.epoch(epoch, {"loss": 0.5})
        assert len((tmp_path / "new" / "log.csv").read_text("utf-8").splitlines()) == 1 + epoch


def test_a_file_that_is_no_log_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("mine\n", "utf-8")
    with pytest.raises(InputError, match=r"notes\.csv is no log of rolewise: name another file"):
        CsvLog(tmp_path / "notes.csv")
    with pytest.raises(InputError, match="Cannot write .*: .*Name another file"):
        CsvLog(tmp_path)
    assert (tmp_path / "notes.csv").read_text("utf-8") == "mine\n"


def test_a_line_that_broke_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    CsvLog(path).epoch(1, {"loss": 0.5})
    path.write_bytes(path.read_bytes()[:-4])  # as a full disk leaves it
    CsvLog(path).epoch(2, {"loss": 0.25})
    broken, whole = path.read_text("utf-8").splitlines()[1:]
    assert broken.endswith(",1,,loss,")
    assert whole.split(",")[1:] == ["", "2", "", "loss", "0.25"]


@pytest.mark.parametrize("listener", [CsvLog, TensorBoardLog])
def test_a_log_in_the_users_folder(listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if listener is TensorBoardLog:
        pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    log = listener("~/logs/log.csv")
    log.start("train", epochs=1, images=1)
    log.epoch(1, {"loss": 0.5})
    log.finish()
    assert (tmp_path / "logs" / "log.csv").exists()
    with pytest.raises(InputError, match="begins with the folder of a user that this machine does not know"):
        listener("~nobody-of-this-name/log")


def test_a_full_disk_costs_the_log_and_not_the_run(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    log = CsvLog(tmp_path / "log.csv")
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").symlink_to("/dev/full")
    with pytest.warns(UserWarning, match="The CSV log ends here, and the run continues: No space left"):
        log.epoch(1, {"loss": 0.5})
    log.epoch(2, {"loss": 0.5})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    everything(TensorBoardLog(), tmp_path)
    folder = tmp_path / "tensorboard"
    assert scalars(folder / "train-teacher") == {
        "train/loss": [(1, 1.5)],
        "train/accuracy": [(1, 0.25)],
        "validation/accuracy": [(1, 0.125)],
        "test/accuracy": [(1, 0.375)],
    }
    assert scalars(folder / "search-teacher" / "member-02") == {"validation/accuracy": [(2, 0.75)]}
    assert not (folder / "search-teacher" / "member-01").exists()  # diverged


def test_tensorboard_of_a_resumed_stage(tmp_path: Path) -> None:
    """Epochs that are done again replace those of the session that was killed."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    for done, loss in ((0, 1.0), (1, 2.0)):
        log = TensorBoardLog(tmp_path)
        log.start("train", epochs=3, images=1, done=done)
        for epoch in range(done + 1, 4):
            log.epoch(epoch, {"loss": loss})
        log.finish()
        log.result("train", {"test_accuracy": 0.5})
        time.sleep(1.1)  # TensorBoard orders its files by the second in which they were made
    assert scalars(tmp_path / "train")["train/loss"] == [(1, 1.0), (2, 2.0), (3, 2.0)]


def test_without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"needs tensorboard.*pip install .*\[tensorboard\]"):
        TensorBoardLog()


def test_what_training_and_search_call() -> None:
    data = rw.load_data("digits").limited(128, 64)
    recorder = Recorder()
    rw.train(networks.build("cnn-tiny", num_classes=10), data, epochs=2, batch_size=64, progress=recorder)
    names = [name for name, _, _ in recorder.calls]
    assert names == ["start", "batch", "batch", "epoch", "batch", "batch", "epoch", "finish", "result"]
    stage, values = recorder.calls[-1][1]
    assert stage == "train"
    assert isinstance(values, dict)
    assert 0 <= values["test_accuracy"] <= 1
    recorder = Recorder()
    rw.search(
        networks.build("cnn-tiny", num_classes=10), data, population=4, epochs=2, interval=1,
        train_images=64, validation_images=32, batch_size=32, workers=1, progress=recorder,
    )  # fmt: skip
    called = [name for name, _, _ in recorder.calls if name != "batch"]
    assert called == ["start", "scores", "epoch", "scores", "epoch", "finish"]
    assert sum(name == "batch" for name, _, _ in recorder.calls) == 4 * 2 * 2
