"""Metrics as TensorBoard events, read back by TensorBoard's own reader."""

import pytest

from rolewise.cli import main
from rolewise.errors import InputError, MissingExtraError
from rolewise.report import write_events
from rolewise.runs import RunDirectory


@pytest.fixture
def run_dir(tmp_path):
    with RunDirectory.create(tmp_path / "run", {"seed": 0}) as run:
        for epoch in (1, 2, 3):
            line = {
                "stage": "train-teacher",
                "role": "teacher",
                "member": None,
                "epoch": epoch,
                "split": "train",
            }
            run.append_metrics(**line, accuracy=epoch / 4, loss=1 / epoch)
            line |= {"stage": "search-teacher", "member": 11, "split": "validation"}
            run.append_metrics(**line, accuracy=epoch / 8, loss=float("nan"))
    return tmp_path / "run"


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]
    }


def test_every_figure_is_there_and_nothing_else(run_dir, tmp_path):
    out = write_events(run_dir, tmp_path / "events")
    assert scalars(out / "train-teacher") == {
        "train/accuracy": [(1, 0.25), (2, 0.5), (3, 0.75)],
        "train/loss": [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))],
    }
    assert scalars(out / "search-teacher" / "member-11") == {  # a loss that is not a number is none
        "validation/accuracy": [(1, 0.125), (2, 0.25), (3, 0.375)],
    }


def test_a_line_without_an_epoch_has_no_place(run_dir, tmp_path):
    with (run_dir / "metrics.jsonl").open("a") as log:
        log.write(
            '{"role": "teacher", "epoch": null, "split": "train", "accuracy": 0.5}\n{"accuracy": 0.5}\n'
        )
    out = write_events(run_dir, tmp_path / "events")
    assert {path.name for path in out.iterdir()} == {"rolewise-events", "search-teacher", "train-teacher"}


def test_a_second_time_replaces_the_first(run_dir, tmp_path, capsys):
    for _ in range(2):
        assert main(["report", str(run_dir), "--tensorboard", str(tmp_path / "events")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "events")] * 2
    assert len(list((tmp_path / "events" / "train-teacher").iterdir())) == 1
    assert not (run_dir / "report.html").exists()


def test_what_is_not_ours_stays(run_dir, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("two years")
    with pytest.raises(InputError, match="name a new folder"):
        write_events(run_dir, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "two years"
    with pytest.raises(InputError, match="no run directory|config.json"):
        write_events(tmp_path / "mine", tmp_path / "events")
    assert main(["report", str(run_dir), "--tensorboard", str(tmp_path / "e"), "--markdown"]) == 2


def test_without_the_package(run_dir, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"needs tensorboard.*pip install .*\[tensorboard\]"):
        write_events(run_dir, tmp_path / "events")
