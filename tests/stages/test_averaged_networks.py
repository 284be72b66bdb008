"""Networks with averaged weights in a run: whatever is said of one is its own, not that of the last weights."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from rolewise.cli import main
from rolewise.cli.network_files import info_for, role_of
from rolewise.pretrained import describe, network_info
from rolewise.stages import open_pipeline, run_all
from rolewise.stages.network_info import run_settings

SMALL = {
    "teacher.schedule": "none", "student.schedule": "none", "kd.loss": "soft", "baselines": "student-plain,student-kd",
    "teacher.train.epochs": 2, "student.train.epochs": 2, "teacher.train.batch_size": 256,
    "student.train.batch_size": 256, "machine.threads": 1, "machine.precision": "fp32",
}  # fmt: skip
AVERAGED = {"teacher.train.ema_decay": 0.9, "student.train.ema_decay": 0.9}
# Networks with averaged weights that a run keeps, and the keys of their rows; student-kd equals student.
NETWORKS = {
    "teacher-averaged": "teacher",
    "student-averaged": "student",
    "baselines/student-plain-averaged": "student-plain",
}


def complete(path, changes):
    with open_pipeline(changes, out=path) as pipeline:
        run_all(pipeline)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return complete(tmp_path_factory.mktemp("averaged") / "run", SMALL | AVERAGED)


@pytest.fixture(scope="module")
def rows(run):
    found = {row["key"]: row for row in json.loads((run / "results.json").read_text())["rows"]}
    assert set(found) == {"teacher", "student", "student-plain", "student-kd"}
    return found


def measured(path, capsys):
    """The accuracy of a network's file, by the command that measures it."""
    assert main(["eval", str(path), "--data", "digits", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["accuracy"]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_states_the_accuracy_of_its_own_network(run, rows, name, capsys):
    row = rows[NETWORKS[name]]
    assert row["accuracy"] != row["accuracy_averaged"]  # or nothing is tested here
    info = network_info(run / f"{name}.safetensors")
    assert info.accuracy == row["accuracy_averaged"] == measured(run / f"{name}.safetensors", capsys)
    assert info.test_images == row["n"]
    assert info.made["weights"] == "averaged"
    last = network_info(run / f"{name.removesuffix('-averaged')}.safetensors")
    assert last.accuracy == row["accuracy"]
    assert "weights" not in last.made


def test_so_do_its_exports_and_its_model_card(run, rows, tmp_path):
    targets = [tmp_path / name for name in ("hub", "packed.safetensors", "net.onnx")]
    assert main(["export", str(run / "student-averaged.safetensors"), *map(str, targets)]) == 0
    own = rows["student"]["accuracy_averaged"]
    assert {network_info(target).accuracy for target in targets} == {own}
    card = (tmp_path / "hub" / "README.md").read_text()
    assert f"| Test accuracy | {100 * own:.2f} % of {rows['student']['n']:,} images |" in card
    assert "weights averaged" in card


def test_so_does_what_is_completed_from_the_run(run, rows):
    """A file that does not say how images are prepared is completed from its run's row."""
    for name in ("teacher", "student"):
        for end, field in (("", "accuracy"), ("-averaged", "accuracy_averaged")):
            file = run / f"{name}{end}.safetensors"
            # Whichever role the command assumes, the file is the teacher's or the student's.
            info = info_for(file, {**describe(file), "info": {}}, "student", run_settings(run))
            assert info.accuracy == rows[name][field]


def test_outputs_for_the_test_images_are_kept(run, rows):
    for key, row in rows.items():
        kept = load_file(run / "tests" / f"{key}-averaged.safetensors")
        right = (kept["logits"].argmax(1) == kept["labels"]).double().mean().item()
        assert right == pytest.approx(row["accuracy_averaged"], abs=1e-12)
        assert kept["labels"].equal(load_file(run / "tests" / f"{key}.safetensors")["labels"])
    assert rows["student-kd"]["same_as"] == "student"
    stages = json.loads((run / "stages.json").read_text())
    assert all(f"tests/{key}-averaged.safetensors" in stages[f"train-{key}"]["files"] for key in rows)


def test_networks_of_a_run_are_compared(run, rows, capsys):
    assert main(["compare", str(run), f"{run}:student-averaged", f"{run}:student-kd-averaged"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{100 * rows['student']['accuracy_averaged']:.2f}" in out
    assert "no McNemar test" not in out
    assert "were tested too" not in out
    assert main(["compare", str(run), f"{run}:student-kd"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "averaged weights of run, run:student-kd were tested too" in out
    assert "Compare those as RUN:student-averaged or RUN:student-kd-averaged." in out


def test_a_run_without_an_average_keeps_none(tmp_path):
    plain = complete(tmp_path / "run", SMALL | {"baselines": "student-plain"})
    assert not list(plain.rglob("*averaged*"))
    assert "averaged" not in (plain / "stages.json").read_text()


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("teacher", "teacher"),
        ("teacher-averaged", "teacher"),
        ("student-averaged", "student"),
        ("x", "student"),
    ],
)
def test_averaged_weights_have_the_role_of_their_training(tmp_path, name, role):
    """Their own code is the teacher's too."""
    assert role_of(tmp_path / f"{name}.safetensors") == role


@pytest.mark.parametrize("name", NETWORKS)
def test_a_lost_file_is_made_again(run, tmp_path, name):
    again = shutil.copytree(run, tmp_path / "run")
    file = again / f"{name}.safetensors"
    before, rows = file.read_bytes(), json.loads((again / "results.json").read_text())["rows"]
    file.unlink()
    with open_pipeline(resume=again) as pipeline:
        assert run_all(pipeline)["rows"] == rows
    assert file.read_bytes() == before
