"""A run from Python has what the command has: checks, a directory, signals, resuming, what may change."""

import os
import signal
from pathlib import Path

import pytest

from rolewise.config import load_config
from rolewise.errors import InputError, Interrupted
from rolewise.progress import Progress
from rolewise.runs import read_config
from rolewise.stages import open_pipeline, run_all, train_role

SMALL = {
    "teacher.train.epochs": 2, "teacher.train.batch_size": 64, "teacher.schedule": "none", "kd.loss": "none",
    "student.schedule": "none", "student.train.epochs": 1, "student.train.batch_size": 64, "baselines": False,
    "machine.threads": 1, "machine.precision": "fp32",
}  # fmt: skip


class Notes(Progress):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


def test_settings_whole_or_by_name_and_what_is_written_down(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = load_config(options=SMALL)
    paths = []
    for settings in (SMALL, whole):
        with open_pipeline(settings) as pipeline:
            paths.append(pipeline.run.path)
            assert pipeline.config.machine.device in ("cpu", "cuda")
            assert pipeline.config.machine.eval_batch is not None
            assert pipeline.config.machine.workers is None
    assert [str(path) for path in paths] == ["runs/digits-001", "runs/digits-002"]
    one, two = (read_config(path)["config"] for path in paths)
    assert one == two
    assert one["machine"]["precision"] == "fp32"


def run_on(path, *, kill=False, **choices):
    """All stages in a run directory; with `kill`, a signal comes before the first."""
    with open_pipeline(**choices) as pipeline:
        assert pipeline.run.path == path
        if kill:
            os.kill(os.getpid(), signal.SIGUSR1)
        return run_all(pipeline)


def test_a_signal_stops_it_and_the_error_names_the_way_on(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(Interrupted, match=f"rolewise run --resume {path}"):
        run_on(path, kill=True, config=SMALL, out=path)
    # One stage alone is not resumed by the command for all of them.
    with pytest.raises(Interrupted, match=rf"\. Resume with the same command and --resume {path}$"):
        run_on(path, kill=True, resume=path, only="search-teacher")
    asked = []
    with pytest.raises(Interrupted, match=f"rolewise run --resume {path}"):
        run_on(path, resume=path, should_stop=lambda: not asked.append(1))
    assert asked
    assert [row["key"] for row in run_on(path, resume=path)["rows"]] == ["teacher", "student"]
    # Another loss brings other factors along; what was asked for is what is named.
    with (
        pytest.raises(InputError, match="`kd.loss` is 'none' in .* cannot become 'ii-kd'"),
        open_pipeline({"kd.loss": "ii-kd"}, resume=path),
    ):
        pass


def test_what_a_resumed_run_may_change(tmp_path):
    path, notes = tmp_path / "run", Notes()
    with open_pipeline(SMALL, out=path, only="train-teacher", progress=notes) as pipeline:
        train_role(pipeline, "teacher")
    assert notes.said[0] == f"run directory {path}, seed 2"
    with (
        pytest.raises(InputError, match=r"`teacher.train.lr` is 0.1 in .* cannot become 0.2"),
        open_pipeline({"teacher.train.lr": 0.2}, resume=path),
    ):
        pass
    with (
        pytest.raises(InputError, match='Unknown network "resnet19"'),
        open_pipeline({"student.network": "resnet19"}, resume=path),
    ):
        pass
    with (
        pytest.raises(
            InputError, match=r"`preset` is 'demo' in .*, and a run that is resumed has its settings"
        ),
        open_pipeline({"preset": "cifar10-small"}, resume=path),
    ):
        pass
    assert read_config(path)["config"]["student"]["network"] is None
    with open_pipeline({"student.weight_bits": 2, "machine.workers": 1}, resume=path) as pipeline:
        assert pipeline.config.student.weight_bits == 2
        assert pipeline.config.machine.workers == 1
        run_all(pipeline)
    with (
        pytest.raises(InputError, match="`student.weight_bits` is 2"),
        open_pipeline({"student.weight_bits": 4}, resume=path),
    ):
        pass
    with open_pipeline(load_config(options=read_config(path)["config"]), resume=path) as pipeline:
        assert len(run_all(pipeline)["rows"]) == 2


def test_a_run_is_new_or_resumed(tmp_path):
    with (
        pytest.raises(InputError, match="give one of them"),
        open_pipeline(out=tmp_path / "a", resume=tmp_path / "b"),
    ):
        pass
    with pytest.raises(InputError, match="is not a run directory"), open_pipeline(resume=tmp_path / "b"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_code_of_the_documentation(tmp_path, monkeypatch):
    text = (Path(__file__).resolve().parents[2] / "docs" / "run-directory.md").read_text("utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    data = '"data.name": "cifar10", "data.root": "data"'
    assert data in code
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.replace(data, ", ".join(f'"{key}": {value!r}' for key, value in SMALL.items())), names)
    assert [row["weight_bits"] for row in names["results"]["rows"]] == [32, 2]
    assert read_config("runs/two-bit")["config"]["machine"]["workers"] == 2


def test_the_factors_of_the_loss_are_written_down_and_follow_another_loss(tmp_path):
    path = tmp_path / "run"
    with open_pipeline({**SMALL, "kd.loss": "ii-kd", "kd.decay": False}, out=path):
        kd = read_config(path)["config"]["kd"]
    assert (kd["task_weight"], kd["weight"], kd["decay"], kd["clip"]) == (1, 0.4, False, True)
    with open_pipeline({"kd.loss": "soft"}, resume=path):
        kd = read_config(path)["config"]["kd"]
    assert (kd["task_weight"], kd["weight"], kd["decay"], kd["clip"]) == (0.7, 0.3, False, False)
    with open_pipeline({"kd.loss": "ii-kd", "kd.weight": 2.0}, resume=path):
        kd = read_config(path)["config"]["kd"]
    assert (kd["task_weight"], kd["weight"], kd["decay"], kd["clip"]) == (1, 2.0, True, True)
    with open_pipeline({"kd.loss": "ii-kd"}, resume=path):  # the same loss: what was said before stays
        assert read_config(path)["config"]["kd"]["weight"] == 2.0
