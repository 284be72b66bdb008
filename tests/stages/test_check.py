"""What is wrong is found before a run directory is made, and looking for it changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

import rolewise
from rolewise import networks
from rolewise.config import load_config
from rolewise.errors import InputError
from rolewise.kd import LOSSES
from rolewise.pretrained import save_network
from rolewise.stages import check, open_pipeline

QUICK = {"search.population": 4, "search.epochs": 1, "teacher.train.epochs": 1, "student.train.epochs": 1}

BAD = [
    ({"kd.loss": "fitnet", "kd.arguments": {"layer": 9}}, "`layer` must be an index into the 3 feature maps .* got 9"),
    ({"kd.arguments": {"taps": ["layer9", "layer3"]}}, 'Unknown.*"layer9"'),
    ({"kd.arguments": {"taps": ["conv1"]}}, "at least 2 feature maps"),
    ({"kd.arguments": {"heads": 0}}, "`heads` must be an integer at least 1, got 0"),
    ({"student.quantizer": "xnor"}, 'Unknown.*"xnor"'),
    ({"student.quantizer": "lsq", "student.weight_bits": 1}, "2 to 8 or 32 with method=.lsq., got 1"),
    ({"teacher.arguments": {"width": 3}}, 'The network "cnn-tiny" cannot be built with .*width'),
    ({"student.network": "wrn-16-2", "student.arguments": {"depth": 3}}, '"wrn-16-2" cannot be built with .*depth'),
    ({"kd.loss": "kd-svd", "student.network": "resnet8"}, "the same number of feature maps: 4 against 3"),
    ({"search.warm_start": "gone.json"}, "gone.json"),
    ({"student.schedule": "notes.json"}, "notes.json"),
    ({"teacher.schedule": "notes.json"}, "notes.json"),
    ({"teacher.file": "notes.json"}, "notes.json"),
    ({"machine.device": "cuda:7"}, "CUDA"),
    ({"machine.workers": 10_000}, "`workers` is 10000, but there are"),
    ({"data.search_train": 5000}, "`train` . `validation` must be at most"),
]  # fmt: skip


@pytest.fixture
def _notes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.json").write_text('{"not": "a schedule"}')


@pytest.mark.usefixtures("_notes")
@pytest.mark.parametrize(("settings", "words"), BAD)
def test_a_refusal_leaves_no_directory(tmp_path, settings, words):
    with pytest.raises(InputError, match=words), open_pipeline({**QUICK, **settings}, out="run"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]


@pytest.mark.parametrize(
    ("only", "settings", "words"),
    [
        ("train-teacher", {}, "has no A_T.json yet.*--schedule none"),
        ("train-student", {"student.schedule": "none"}, "has no teacher yet.*--teacher FILE"),
        ("search-student", {}, "has no teacher yet.*--teacher FILE"),
    ],
)
def test_a_new_run_begins_with_a_stage_that_can_be(only, settings, words, tmp_path):
    with (
        pytest.raises(InputError, match=words),
        open_pipeline({**QUICK, **settings}, out=tmp_path / "run", only=only),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_a_teachers_stage_needs_no_sound_student():
    config = load_config(options={"kd.arguments": {"taps": ["layer9"]}})
    with pytest.raises(InputError, match="layer9"):
        check(config)
    check(config, only="search-teacher")


def test_an_own_loss_that_fails_in_forward(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from rolewise.kd import KDLoss\n\n\n"
        "class Mine(KDLoss):\n"
        "    def forward(self, student, teacher):\n"
        "        return student.logits @ teacher.logits\n"
    )
    config = load_config(options={"kd.loss": f"{tmp_path / 'mine.py'}:Mine"})
    with pytest.raises(
        InputError, match=r"mine.py, line 6, in forward \(Mine.forward\): RuntimeError: mat1 and mat2"
    ):
        check(config)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_passes(loss):
    check(load_config(options={"kd.loss": loss}))


def test_no_random_stream_moves(tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_network(networks.build("cnn-tiny", num_classes=10), path)
    for options in ({}, {"teacher.file": str(path), "kd.loss": "mhgd", "student.quantizer": "lsq"}):
        torch.manual_seed(1)
        np.random.seed(1)
        torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
        check(load_config(options=options))
        assert torch.equal(torch.get_rng_state(), torch_before)
        assert np.array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize(
    "name",
    [
        "teacher.schedule",
        "student.schedule",
        "search.warm_start",
        "teacher.file",
        "teacher.weights",
        "data.root",
    ],
)
def test_a_path_of_an_unknown_user_is_named(name):
    options = {name: "~nosuchuser/x.json"}
    if name == "data.root":
        options |= {"data.name": "cifar10"}
    with pytest.raises(InputError, match="~nosuchuser"):
        check(load_config(options=options))


def test_a_home_is_expanded_in_one_place():
    """Elsewhere the folder of an unknown user would be an error that nobody foresees."""
    source = Path(rolewise.__file__).parent
    found = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if "expanduser" in path.read_text("utf-8")
    }
    assert found == {"errors.py"}
