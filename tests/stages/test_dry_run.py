"""What a dry run reports about a whole run."""

import re
import sys
import time

import pytest

from rolewise import networks
from rolewise.config import load_config
from rolewise.pretrained import save_network
from rolewise.stages import estimate
from rolewise.stages.trainings import further_training

estimate_module = sys.modules["rolewise.stages.estimate"]
SMALL = (
    "search.population=4", "search.epochs=2", "search.interval=1", "search.batch_size=64",
    "data.search_train=128", "data.search_validation=100", "teacher.train.epochs=2", "student.train.epochs=2",
    "machine.workers=1", "machine.threads=1",
)  # fmt: skip


def settings(*changes):
    return load_config(assignments=[*SMALL, *changes])


def seconds(line):
    number, unit = re.search(r"about ([\d.]+) (s|min|hours|days)", line).groups()
    return float(number) * {"s": 1, "min": 60, "hours": 3600, "days": 86400}[unit]


def test_every_stage_has_a_line_and_the_last_one_is_the_sum():
    said = []
    text = estimate(settings("kd.prepare_epochs=30"), report=said.append)
    assert text.splitlines() == said
    lines = [line for line in said if not line.startswith("other programs")]
    names = [line.partition(":")[0] for line in lines[:-1]]
    assert names == [
        "preparing the loss on the teacher",
        "search of the teacher's schedule",
        "search of the student's schedule",
        "Teacher cnn-tiny, A_T",
        "Student cnn-tiny, ii-kd, A_S",
        "Teacher cnn-tiny, no schedule",
        "Student cnn-tiny, no KD, no schedule",
        "Student cnn-tiny from scratch, no KD, no schedule",
        "Student cnn-tiny, ii-kd, no schedule",
        "Student cnn-tiny, ii-kd, A_T",
    ]
    assert lines[-1].startswith("together about ")
    rounded = 30 if " min" in lines[-1] else 1
    assert seconds(lines[-1]) == pytest.approx(sum(map(seconds, lines[:-1])), abs=len(lines) + rounded)
    assert seconds(lines[0]) >= 1


def test_what_will_not_be_done_is_not_foretold(tmp_path):
    save_network(networks.build("cnn-tiny", num_classes=10), tmp_path / "teacher.safetensors")
    changes = (
        f"teacher.file={tmp_path}/teacher.safetensors", "student.schedule=none", "kd.loss=soft", "baselines=false",
    )  # fmt: skip
    lines = [
        line for line in estimate(settings(*changes)).splitlines() if not line.startswith("other programs")
    ]
    assert [line.partition(":")[0] for line in lines[:-1]] == ["Student cnn-tiny, soft, no schedule"]


def test_one_stage_alone():
    training = estimate(settings("teacher.schedule=none"), only="train-teacher").splitlines()
    assert training[0].startswith("Teacher cnn-tiny, no schedule: about ")
    assert len([line for line in training if not line.startswith("other programs")]) == 1
    search = estimate(settings(), only="search-teacher").splitlines()
    assert search[0].startswith("search of the teacher's schedule: about ")


def test_what_is_done_takes_no_time():
    done = {"search-teacher", "train-teacher", "prepare-kd", "search-student"}
    changes = ("baselines=student-kd", "kd.loss=soft")
    lines = estimate(settings(*changes), done=done.__contains__).splitlines()
    names = [line.partition(":")[0] for line in lines if ":" in line and "other programs" not in line]
    assert names == ["Student cnn-tiny, soft, A_S", "Student cnn-tiny, soft, no schedule"]


def test_samples_of_a_slow_network_are_few(monkeypatch):
    """Each step takes as long as a sample may: one that allocates, one that counts."""
    steps = []

    def slow(self, batch):
        steps.append(batch)
        time.sleep(0.3)

    monkeypatch.setattr(estimate_module, "_SAMPLE_SECONDS", 0.2)
    monkeypatch.setattr("rolewise.trainer.Trainer.train_step", slow)
    lines = estimate(settings("teacher.schedule=none", "teacher.train.epochs=100"), only="train-teacher")
    assert len(steps) == 2
    assert seconds(lines) == pytest.approx(0.3 * 100 * (1437 // 64), rel=0.1)


def test_other_programs_are_named(monkeypatch):
    class Disturbed(estimate_module.Stopwatch):
        undisturbed = property(lambda self: self.wall / 4)

    monkeypatch.setattr(estimate_module, "Stopwatch", Disturbed)
    text = estimate(settings("teacher.schedule=none"), only="train-teacher")
    assert text.splitlines()[-1] == (
        "other programs are at work: the samples took 4.0 times as long by the clock; with them the run takes longer "
        "by about that much"
    )


def test_a_further_row_is_foretold():
    done = {"search-teacher", "train-teacher", "prepare-kd", "search-student", "train-student"}
    control = further_training("control", "student", "trivialaugment")
    chosen = settings("kd.loss=soft")
    lines = estimate(chosen, only="train-student", done=done.__contains__, further=control).splitlines()
    assert lines[0].startswith("Student cnn-tiny, soft, trivialaugment: about ")
    assert seconds(lines[0]) > 0
    again = {*done, "train-control"}.__contains__
    assert estimate(chosen, only="train-student", done=again, further=control) == "nothing is left to do"
    assert estimate(chosen, only="train-student", done=done.__contains__) == "nothing is left to do"


def test_a_recipe_that_counts_epochs_is_timed_too():
    """A warm-up, a ladder and an average over epochs, none of which one epoch could have."""
    longer = ("student.train.epochs=3", "search.epochs=3", "baselines=false", "kd.loss=soft")
    recipe = ("student.train.warmup_epochs=1", "student.train.ladder=[8,6,4]", "student.train.ema_epochs=2")
    text = estimate(settings(*longer, *recipe))
    assert "\nStudent cnn-tiny, soft, A_S: about " in text
    assert "\ntogether about " in text
