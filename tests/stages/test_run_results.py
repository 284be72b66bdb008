"""The costs of a stage: measured once, over all its sessions."""

import time

import pytest

from rolewise.config import load_config
from rolewise.errors import Interrupted
from rolewise.runs import RunDirectory
from rolewise.stages.results import Results


@pytest.fixture
def records(tmp_path):
    with RunDirectory.create(tmp_path / "run", load_config().model_dump()) as run:
        yield Results(run)


def cost_of(records, stage):
    (found,) = [one for one in records.read()["costs"] if one["stage"] == stage]
    return found


def test_an_interrupted_stage_counts_all_its_sessions(records):
    def stopped():
        with records.cost("train-student"):
            time.sleep(0.2)
            raise Interrupted("a signal came")

    with pytest.raises(Interrupted):
        stopped()
    first = cost_of(records, "train-student")
    assert not first["finished"]
    assert first["seconds"] >= 0.2
    with records.cost("train-student") as cost:
        time.sleep(0.1)
        cost["images"] = 128
    both = cost_of(records, "train-student")
    assert both["finished"]
    assert both["images"] == 128
    assert both["seconds"] >= first["seconds"] + 0.1
    assert both["cpu_seconds"] >= first["cpu_seconds"]


def test_a_repeated_stage_counts_from_zero(records):
    for pause in (0.3, 0.0):
        with records.cost("prepare-kd"):
            time.sleep(pause)
    assert cost_of(records, "prepare-kd")["seconds"] < 0.3


def test_who_knows_better_says_so(records):
    with records.cost("search-teacher") as cost:
        cost["seconds"], cost["cpu_seconds"] = 120.0, 230.0
    assert cost_of(records, "search-teacher") == {
        "stage": "search-teacher", "images": None, "finished": True, "seconds": 120.0, "cpu_seconds": 230.0,
    }  # fmt: skip
