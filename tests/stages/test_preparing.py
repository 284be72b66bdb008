"""The preparation of a loss is a stage: shown, stopped within a batch, resumed to the same bytes."""

import json

import pytest
from safetensors import safe_open

from rolewise.errors import Interrupted
from rolewise.progress import Progress
from rolewise.runs.store import CheckpointStore
from rolewise.stages import open_pipeline
from rolewise.stages.run import take_teacher, train_role

SMALL = {
    "teacher.train.epochs": 1, "teacher.train.batch_size": 64, "teacher.schedule": "none", "student.schedule": "none",
    "student.train.batch_size": 64, "machine.threads": 1, "machine.precision": "fp32", "kd.prepare_epochs": 2,
}  # fmt: skip
BATCHES = 11  # of 128 images, a part of one left out


class Seen(Progress):
    """Counts what it hears of the preparation; asks to stop after some batches."""

    def __init__(self, stop_after=None):
        self.stage, self.started, self.images, self.epochs, self.stop_after = None, None, 0, [], stop_after

    def start(self, stage, *, epochs, images, members=0, done=0):
        self.stage = stage
        if stage == "prepare-kd":
            self.started = (epochs, images, done)

    def batch(self, images):
        if self.stage == "prepare-kd":
            self.images += images

    def epoch(self, epoch, values):
        if self.stage == "prepare-kd":
            self.epochs.append(epoch)

    def should_stop(self):
        return self.stop_after is not None and self.images >= self.stop_after * 128


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "run"
    with open_pipeline(SMALL, out=path, only="train-teacher") as pipeline:
        train_role(pipeline, "teacher")
    return path / "teacher.safetensors"


def prepared(path, seen=None, **choice):
    seen = seen or Seen()
    with open_pipeline(progress=seen, should_stop=seen.should_stop, **choice) as pipeline:
        pipeline.objective("student")
    return (path / "kd.safetensors").read_bytes(), seen


@pytest.mark.parametrize("loss", ["ii-kd", "ft"])
def test_it_is_resumed_to_the_same_bytes(loss, teacher, tmp_path):
    settings = {**SMALL, "teacher.file": str(teacher), "kd.loss": loss}
    with open_pipeline(settings, out=tmp_path / "a", only="train-student") as pipeline:
        train_role(pipeline, "student")
    whole = (tmp_path / "a" / "kd.safetensors").read_bytes()
    path, now = tmp_path / "b", Seen(stop_after=BATCHES + 3)
    choice = {"config": settings, "out": path, "only": "train-student"}
    with (
        pytest.raises(Interrupted, match="while the distillation loss was prepared"),
        open_pipeline(progress=now, should_stop=now.should_stop, **choice) as pipeline,
    ):
        train_role(pipeline, "student")
    assert now.started == (2, 1437, 0)
    assert now.images == (BATCHES + 3) * 128
    assert now.epochs == [1]
    assert [one.name for one in (path / "checkpoints" / "prepare-kd").glob("ckpt-*")] == ["ckpt-000001"]
    assert not (path / "kd.safetensors").exists()
    found, rest = prepared(path, resume=path)
    assert rest.started == (2, 1437, 1)
    assert rest.images == BATCHES * 128
    assert rest.epochs == [2]
    assert found == whole
    left = path / "checkpoints" / "prepare-kd"
    assert not list(left.glob("ckpt-*"))
    CheckpointStore(left).save(2, {}, {})  # as after a kill just before it was removed
    assert prepared(path, resume=path)[0] == whole
    assert not list(left.glob("ckpt-*"))
    assert "prepare-kd" in json.loads((path / "stages.json").read_text())


def test_other_arguments_are_prepared_again(teacher, tmp_path):
    settings = {**SMALL, "teacher.file": str(teacher), "kd.loss": "mhgd", "kd.prepare_epochs": 1}
    path = tmp_path / "a"
    with open_pipeline(settings, out=path, only="train-student") as pipeline:
        take_teacher(pipeline)
        pipeline.objective("student")
    first = (path / "kd.safetensors").read_bytes()
    same, seen = prepared(path, resume=path)
    assert same == first
    assert seen.started is None
    for change in ({"kd.arguments": {"heads": 4}}, {"kd.prepare_epochs": 2}):
        other, seen = prepared(path, resume=path, config=change)
        assert seen.started is not None
        assert other != first
        with safe_open(path / "kd.safetensors", framework="pt") as file:
            about = json.loads(file.metadata()["about"])
        ((key, value),) = change.items()
        assert about[key.removeprefix("kd.")] == value
        first = other
