"""Rows of results are named by what was done; equal trainings are done once; controls are further rows."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file

import rolewise as rw
from rolewise import networks
from rolewise.augment import OPS, Policy, RandAugment, Schedule, TrivialAugment
from rolewise.cli import main
from rolewise.config import BASELINES, Config, load_config
from rolewise.errors import InputError
from rolewise.quant import quantize
from rolewise.stages import TRAININGS, open_pipeline, run_all, train_role
from rolewise.stages.schedules import Source, named_schedule
from rolewise.stages.trainings import further_training, wanted_baselines

SMALL = {
    "teacher.train.epochs": 1, "teacher.train.batch_size": 64, "kd.loss": "soft", "student.train.epochs": 1,
    "student.train.batch_size": 64, "machine.threads": 1, "machine.precision": "fp32",
}  # fmt: skip


def active():
    return Policy([(name, 5, 5) for name in OPS for _ in range(2)][:30])


@pytest.fixture(scope="module")
def schedules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schedules")
    Schedule.constant(active(), 4).save(folder / "busy.json")
    Schedule.none(4).save(folder / "idle.json")
    return folder


@pytest.fixture(scope="module")
def run(schedules, tmp_path_factory):
    """The teacher under a file's schedule, the student under a file's that holds no operation, and all baselines."""
    path = tmp_path_factory.mktemp("run") / "run"
    files = {
        "teacher.schedule": str(schedules / "busy.json"),
        "student.schedule": str(schedules / "idle.json"),
    }
    with open_pipeline({**SMALL, **files}, out=path) as pipeline:
        run_all(pipeline)
    return path


def rows(path):
    return {row["key"]: row for row in json.loads((path / "results.json").read_text())["rows"]}


def test_the_baselines_of_the_settings_are_those_of_the_table():
    assert tuple(key for key, training in TRAININGS.items() if training.baseline) == BASELINES


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("all", BASELINES), (True, BASELINES), ("none", ()), (False, ()), (None, ()), ("student-kd", ("student-kd",)),
        ("student-kd, teacher-plain", ("student-kd", "teacher-plain")), (["student-kd", "student-kd"], ("student-kd",)),
    ],
)  # fmt: skip
def test_baselines_by_name(given, expected):
    assert Config(baselines=given).baselines == expected


@pytest.mark.parametrize("given", ["student", ["student-kd", 3], 7, "all,none"])
def test_unknown_baselines(given):
    with pytest.raises(InputError, match="`baselines"):
        load_config(options={"baselines": given})


def test_which_baselines_a_run_has():
    def keys(**options):
        return [training.key for training in wanted_baselines(load_config(options=options))]

    assert keys() == list(BASELINES)
    assert keys(**{"teacher.schedule": "none"}) == [key for key in BASELINES if key != "student-a-t"]
    assert keys(**{"teacher.file": "x.safetensors"}) == ["student-plain", "student-scratch", "student-kd"]
    assert keys(**{"teacher.file": "x.safetensors", "teacher.schedule": "x.json"}) == [
        key for key in BASELINES if key != "teacher-plain"
    ]


def test_rows_say_what_was_done(run, schedules):
    found = rows(run)
    assert list(found) == ["teacher", "student", *BASELINES]
    busy = hashlib.sha256((schedules / "busy.json").read_bytes()).hexdigest()
    said = {
        key: tuple(
            row[name] for name in ("name", "network", "quantizer", "init", "kd", "schedule", "no_operation")
        )
        for key, row in found.items()
    }
    teacher, student = ("cnn-tiny", None, "random", None), ("cnn-tiny", "dorefa", "teacher")
    assert said == {
        "teacher": ("Teacher cnn-tiny, busy.json", *teacher, "busy.json", False),
        "student": ("Student cnn-tiny, soft, idle.json", *student, "soft", "idle.json", True),
        "teacher-plain": ("Teacher cnn-tiny, no schedule", *teacher, None, False),
        "student-plain": ("Student cnn-tiny, no KD, no schedule", *student, None, None, False),
        "student-scratch": (
            "Student cnn-tiny from scratch, no KD, no schedule", "cnn-tiny", "dorefa", "random", None, None, False,
        ),
        "student-kd": ("Student cnn-tiny, soft, no schedule", *student, "soft", None, False),
        "student-a-t": ("Student cnn-tiny, soft, busy.json", *student, "soft", "busy.json", False),
    }  # fmt: skip
    assert found["teacher"]["schedule_sha256"] == found["student-a-t"]["schedule_sha256"] == busy
    assert found["student-kd"]["schedule_sha256"] is None
    assert [row["weight_bits"] for row in found.values()] == [32, 4, 32, 4, 4, 4, 4]
    report = run / "report.html"
    assert main(["report", str(run)]) == 0
    assert "under its own schedule" not in report.read_text()
    assert "idle.json, no operation" in report.read_text()


def test_an_equal_training_is_done_once(run):
    found = rows(run)
    assert {key: row.get("same_as") for key, row in found.items() if row.get("same_as")} == {
        "student-kd": "student"
    }
    assert found["student-kd"]["accuracy"] == found["student"]["accuracy"]
    assert found["student-kd"]["loss"] == found["student"]["loss"]
    assert not (run / "baselines" / "student-kd.safetensors").exists()
    one, two = (load_file(run / "tests" / f"{key}.safetensors") for key in ("student", "student-kd"))
    assert torch.equal(one["logits"], two["logits"])
    stages = {json.loads(line)["stage"] for line in (run / "metrics.jsonl").read_text().splitlines()}
    assert stages == {f"train-{key}" for key in found if key != "student-kd"}


def test_an_equal_training_of_own_code_is_done_once(schedules, tmp_path):
    """The file does not say how to build such a network, so the settings do."""
    code = tmp_path / "own.py"
    code.write_text(
        "from rolewise import networks\n\n\ndef make(num_classes):\n"
        "    network = networks.build('cnn-tiny', num_classes=num_classes)\n"
        "    del network.architecture\n"
        "    return network\n"
    )
    options = {
        **SMALL,
        "teacher.network": f"{code}:make",
        "teacher.schedule": str(schedules / "idle.json"),
        "student.schedule": str(schedules / "idle.json"),
        "baselines": "teacher-plain,student-kd",
    }
    with open_pipeline(options, out=tmp_path / "run") as pipeline:
        run_all(pipeline)
    found = rows(tmp_path / "run")
    for key, same in (("teacher-plain", "teacher"), ("student-kd", "student")):
        assert found[key]["same_as"] == same
        assert found[key]["accuracy"] == found[same]["accuracy"]
        assert found[key]["network"] == "own.py:make"
        assert found[key]["weight_bits"] == found[same]["weight_bits"]


def test_it_would_have_been_the_same_bytes(run, schedules, tmp_path):
    """The student under the schedule without operations, against one that has none: trained apart."""
    teacher = str(run / "teacher.safetensors")
    options = {**SMALL, "teacher.file": teacher, "student.schedule": "none", "baselines": "none"}
    with open_pipeline(options, out=tmp_path / "run") as pipeline:
        run_all(pipeline)
    for name in ("student.safetensors", "tests/student.safetensors"):
        one, two = load_file(run / name), load_file(tmp_path / "run" / name)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), name


def test_a_student_begins_with_the_teachers_weights_and_one_from_scratch_with_others(run):
    """An epoch later they still lie near, or far away."""
    files = (run / "teacher", *(run / "baselines" / f"student-{key}" for key in ("plain", "scratch")))
    teacher, plain, scratch = (rw.load_network(f"{file}.safetensors").conv1.weight for file in files)
    assert 0 < (plain - teacher).norm() < 0.2 * (scratch - teacher).norm()


def test_controls_are_added_to_a_run_as_rows(run, schedules, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    config = (run / "config.json").read_bytes()
    arguments = ["train", "--role", "student", "--resume", str(run), "--quiet"]
    assert main([*arguments, "--schedule", "trivialaugment", "--as", "trivial"]) == 0
    assert "trivialaugment" in capsys.readouterr().out
    assert main([*arguments, "--schedule", str(schedules / "busy.json"), "--as", "busy"]) == 0
    found = rows(run)
    assert found["trivial"]["name"] == "Student cnn-tiny, soft, trivialaugment"
    assert found["trivial"]["baseline"]
    assert found["trivial"]["schedule_sha256"] is None
    assert (run / "baselines" / "trivial.safetensors").exists()
    assert (run / "tests" / "trivial.safetensors").exists()
    assert found["busy"]["same_as"] == "student-a-t"
    for path, content in before.items():
        assert path.read_bytes() == content
    assert (run / "config.json").read_bytes() == config
    assert main([*arguments, "--as", "third"]) == 2
    assert "give `--schedule` too" in capsys.readouterr().err
    assert main([*arguments, "--schedule", "none", "--as", "student-kd"]) == 2
    assert "`--as` student-kd is a training of its own already" in capsys.readouterr().err


def test_a_second_control_of_one_name_does_not_replace_the_first(run, schedules):
    with open_pipeline(resume=run) as pipeline:
        train_role(pipeline, "student", name="twice", schedule="randaugment")
        kept = rows(run)["twice"]
        with pytest.raises(InputError, match='"twice" is there already, under randaugment'):
            train_role(pipeline, "student", name="twice", schedule="trivialaugment")
        train_role(pipeline, "student", name="twice", schedule="randaugment")
    assert rows(run)["twice"] == kept


def test_sources_of_schedules(schedules):
    assert named_schedule("none", 3) == Source()
    for word, policy in (("trivialaugment", TrivialAugment()), ("randaugment", RandAugment())):
        source = named_schedule(word, 3)
        assert list(source.schedule) == [policy] * 3
        assert source.name == word
        assert not source.idle
    assert named_schedule("random", 6, seed=1).digest != named_schedule("random", 6, seed=2).digest
    busy, idle = (named_schedule(str(schedules / f"{name}.json"), 3) for name in ("busy", "idle"))
    assert busy.name == "busy.json"
    assert not busy.idle
    assert idle.idle
    assert idle.digest is None
    assert busy.digest == Source(Schedule.constant(active(), 4)).digest
    assert busy.digest != busy.stretched(5).digest
    with pytest.raises(InputError, match='There is no file trivial. .*"trivialaugment"'):
        named_schedule("trivial", 3)


def test_a_name_of_averaged_weights_is_none_of_a_training():
    """Their outputs and their file would lie where those of the averaged weights do."""
    with pytest.raises(
        InputError, match="student-kd-averaged is the name of the averaged weights of student-kd"
    ):
        further_training("student-kd-averaged", "student", "none")


@pytest.mark.parametrize("name", ["", "../up", "a b", "-x"])
def test_names_that_no_file_can_have(name):
    with pytest.raises(InputError, match="must be a plain name"):
        further_training(name, "student", "none")


def test_the_bits_of_a_row_are_the_networks():
    model = quantize(networks.build("cnn-tiny", num_classes=10), 2, 3, method="lsq")
    row = TRAININGS["teacher"].describe(load_config(), model, Source(), taken=True)
    assert (row["weight_bits"], row["act_bits"], row["quantizer"]) == (2, 3, "lsq")
