"""The members of a search on a CUDA device without values: they stay there, and swapping them waits for nothing.

Everything runs in one process of its own (`members.py`); the watch is tested in `test_cuda_paths.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = ["cross-entropy/resnet8-small/32", "soft/resnet8-small/4", "ii-kd/resnet8-small/4"]
PHASES = ("beginning", "swap", "step", "evaluation", "finite", "checkpoint", "resume")


@pytest.fixture(scope="module")
def found(fake_device):
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, HERE / "members.py", *CASES],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["case"]: line for line in lines}


@pytest.mark.parametrize("case", CASES)
def test_nothing_waits_and_nothing_comes_from_pageable_memory(found, case):
    one = found[case]
    assert one["error"] is None
    assert one["violations"] == {phase: [] for phase in PHASES}
    assert one["reads"] == 1  # whether all weights are finite


@pytest.mark.parametrize("case", CASES)
def test_states_stay_on_the_device_until_a_checkpoint(found, case):
    assert found[case]["swaps"] == {"held": ["cuda"], "saved": ["cpu"], "eager": None}


@pytest.mark.parametrize("case", CASES)
def test_a_swap_is_a_few_launches_and_a_step_is_one_graph(found, case):
    launches = found[case]["launches"]
    assert 0 < launches["swap"] / 3 <= 4  # one for each type of the tensors
    assert launches["step"] == 3  # images, labels and ids into the recorded batch's place
    assert launches["checkpoint"] == 0


@pytest.mark.parametrize("case", CASES)
def test_a_cuda_device_gets_lanes_of_one_process(found, case):
    assert found[case]["engine"] == {"lanes": 2, "members": [0, 1, 2, 3], "finished": True, "notes": []}


@pytest.mark.parametrize("case", CASES)
def test_a_worker_whose_states_travel_records_its_step_as_well(found, case):
    assert found[case]["host"] == {"recorded": True, "held": ["cpu"]}
