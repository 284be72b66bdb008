"""A run is whole: what it was given lies in it, so it can be moved and resumed; own code is not run unasked."""

import hashlib
import json
import shutil

import pytest

from rolewise import networks
from rolewise.augment import Schedule
from rolewise.config import load_config
from rolewise.errors import InputError
from rolewise.pretrained import save_network
from rolewise.progress import Progress
from rolewise.runs import read_config
from rolewise.stages import inputs, open_pipeline, run_all, train_role

SMALL = {
    "teacher.train.epochs": 1, "teacher.train.batch_size": 64, "kd.loss": "soft", "student.train.epochs": 1,
    "student.train.batch_size": 64, "machine.threads": 1, "machine.precision": "fp32", "baselines": "none",
}  # fmt: skip
LOSS = (
    "from rolewise.kd import KDLoss\n\n\n"
    "class Mine(KDLoss):\n"
    "    def forward(self, student, teacher):\n"
    "        return (student.logits - teacher.logits).abs().mean()\n"
)


class Notes(Progress):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Files beside the run, named relatively."""
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.chdir(folder)
    model = networks.build("cnn-tiny", num_classes=10)
    save_network(model, folder / "mine.safetensors", extra={"classes": [str(n) for n in range(10)]})
    Schedule.random(3, seed=1).save(folder / "busy.json")
    (folder / "mine.py").write_text(LOSS)
    return folder


def test_files_are_copied_and_the_originals_are_not_needed(given, tmp_path, monkeypatch):
    files = {"teacher.file": "mine.safetensors", "student.schedule": "busy.json"}
    schedule = (given / "busy.json").read_bytes()
    path = tmp_path / "runs" / "a"
    with open_pipeline({**SMALL, **files}, out=path, only="train-student"):
        pass
    config = read_config(path)["config"]
    assert config["teacher"]["file"] == str(given / "mine.safetensors")
    assert config["student"]["schedule"] == str(given / "busy.json")
    record = json.loads((path / "inputs.json").read_text())
    assert record["student.schedule"]["files"] == {
        "inputs/student.schedule/busy.json": hashlib.sha256(schedule).hexdigest()
    }
    assert set(record["teacher.file"]["files"]) == {
        "inputs/teacher.file/mine.safetensors", "inputs/teacher.file/mine.json",
    }  # fmt: skip
    shutil.rmtree(given)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.move(path, tmp_path / "moved")
    with open_pipeline(resume=tmp_path / "moved") as pipeline:
        rows = run_all(pipeline)["rows"]
    assert [row["name"] for row in rows] == [
        "Teacher from mine.safetensors",
        "Student cnn-tiny, soft, busy.json",
    ]
    assert [row["network"] for row in rows] == ["cnn-tiny", "cnn-tiny"]
    assert rows[1]["schedule_sha256"] == hashlib.sha256(schedule).hexdigest()


@pytest.mark.parametrize("name", ["./busy.json", "../given/busy.json", "sub//../busy.json"])
def test_a_relative_name_of_any_form_becomes_the_file_that_it_names(given, name):
    (given / "sub").mkdir()
    settings = load_config(
        options={"student.schedule": name, "search.warm_start": name, "teacher.schedule": "none"}
    )
    found = inputs.absolute(settings)
    assert found.student.schedule == found.search.warm_start == str(given / "busy.json")
    assert found.teacher.schedule == "none"
    assert inputs.absolute(load_config(options={"search.warm_start": "A_T"})).search.warm_start == "A_T"


def test_a_copy_that_was_changed_is_refused(given, tmp_path):
    with open_pipeline(
        {**SMALL, "student.schedule": "busy.json", "teacher.schedule": "none"}, out=tmp_path / "a"
    ):
        pass
    copy = tmp_path / "a" / "inputs" / "student.schedule" / "busy.json"
    copy.write_bytes(copy.read_bytes() + b"\n")
    with (
        pytest.raises(InputError, match=r"busy.json is not the copy of .*given/busy.json"),
        open_pipeline(resume=tmp_path / "a"),
    ):
        pass
    for content in ("[]", '{"student.schedule": {"path": "busy.json", "name": 3, "files": {}}}'):
        (tmp_path / "a" / "inputs.json").write_text(content)
        with (
            pytest.raises(InputError, match=r"inputs.json cannot be used: .*The file was changed or damaged"),
            open_pipeline(resume=tmp_path / "a"),
        ):
            pass


def test_a_file_that_is_named_on_resume_takes_the_place_of_another(given, tmp_path):
    Schedule.random(3, seed=2).save(given / "other.json")
    with open_pipeline(
        {**SMALL, "teacher.schedule": "busy.json"}, out=tmp_path / "a", only="train-teacher"
    ) as pipeline:
        train_role(pipeline, "teacher")
    with open_pipeline({"student.schedule": "other.json"}, resume=tmp_path / "a") as pipeline:
        rows = run_all(pipeline)["rows"]
    assert [row["schedule"] for row in rows] == ["busy.json", "other.json"]
    assert (tmp_path / "a" / "inputs" / "student.schedule" / "other.json").exists()
    with (
        pytest.raises(InputError, match='`teacher.schedule` is .*the stage "train-teacher" was made with it'),
        open_pipeline({"teacher.schedule": "other.json"}, resume=tmp_path / "a"),
    ):
        pass


def test_the_same_images_elsewhere_and_other_images(tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    def photos(root, seed):
        rng = np.random.default_rng(seed)
        for part, label in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
            (root / part / label).mkdir(parents=True)
            for number in range(12):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{number}.png")

    photos(tmp_path / "photos", 1)
    photos(tmp_path / "others", 2)
    monkeypatch.chdir(tmp_path)
    settings = {
        **SMALL, "data.name": "folder", "data.root": "photos", "data.size": 16, "teacher.train.batch_size": 8,
        "student.train.batch_size": 8, "teacher.schedule": "none", "student.schedule": "none",
        "teacher.network": "cnn-tiny",
    }  # fmt: skip
    with open_pipeline(settings, out="run", only="train-teacher") as pipeline:
        train_role(pipeline, "teacher")
    assert read_config("run")["config"]["data"]["root"] == str(tmp_path / "photos")
    (tmp_path / "photos").rename(tmp_path / "pictures")
    with (
        pytest.raises(InputError, match="are not those of the settings"),
        open_pipeline({"data.root": "others"}, resume="run"),
    ):
        pass
    with open_pipeline({"data.root": "pictures"}, resume="run") as pipeline:
        assert len(run_all(pipeline)["rows"]) == 2
