"""What a dry run tells of a whole run."""

import re

import pytest

from rolewise import networks
from rolewise.config import load_config
from rolewise.pretrained import save_network
from rolewise.stages import estimate

SMALL = (
    "search.population=4", "search.epochs=2", "search.interval=1", "search.batch_size=64",
    "data.search_train=128", "data.search_validation=100", "teacher.train.epochs=2", "student.train.epochs=2",
    "machine.workers=1", "machine.threads=1",
)  # fmt: skip


def settings(*changes):
    return load_config(assignments=[*SMALL, *changes])


def seconds(line):
    number, unit = re.search(r"about ([\d.]+) (s|min|h)", line).groups()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_every_stage_has_a_line_and_the_last_one_is_the_sum():
    lines = estimate(settings("kd.prepare_epochs=30")).splitlines()
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
    lines = estimate(settings(*changes)).splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["Student cnn-tiny, soft, no schedule"]
