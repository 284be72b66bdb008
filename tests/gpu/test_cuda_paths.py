"""The package on a CUDA device without values: no tensor on a wrong device, no wait, no pageable copy in a step.

Everything runs in one process of its own (`cases.py`). The watch itself is tested first: planted faults must be seen.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rolewise import kd

HERE = Path(__file__).parent
FAULTS = {
    "device_mismatch": None,
    "value_read": "WAIT: a value is read",
    "item": "WAIT: a value is read",
    "truth": "WAIT: a value is read",
    "listed": "WAIT: a value is read",
    "shape_from_data": "WAIT: index by a mask",
    "pageable_copy": "COPY: from pageable memory",
    "blocking_copy": "COPY: from pageable memory",
    "indices_on_the_cpu": "COPY: index by indices on the CPU",
    "copy_to_the_cpu": "WAIT: copy to the CPU",
    "in_inference_mode": "COPY: from pageable memory",
    "slow_decomposition": "SLOW: _linalg_eigh",
    "strides_apart": "LAYOUT: _fused_sgd_",
}
SMALL = [
    "cross-entropy/resnet8-small/32/dorefa",
    "cross-entropy/resnet8-small/1/dorefa",
    "cross-entropy/resnet8-small/8/dorefa",
    "cross-entropy/resnet8-small/4/lsq",
    "cross-entropy/resnet8-small/4/pact",
    "cross-entropy/resnet8-small/4/dorefa",
    "cross-entropy/resnet8-small/4/lsq/plain",
    "mutual/resnet8-small/4/dorefa",
    *(f"{loss}/resnet8-small/4/dorefa" for loss in kd.LOSSES),
]
LARGE = [
    "cross-entropy/alexnet/4/dorefa",
    "ii-kd/alexnet/4/dorefa",
    "ii-kd/resnet8/4/dorefa",
    "ii-kd/resnet18/4/lsq",
    "ii-kd/resnet18/4/pact",
    *(f"{loss}/resnet18/4/dorefa" for loss in kd.LOSSES),
]
# Operations of a step, as counted; more would be launches that nobody meant to add. II-KD on ResNet18: at most 1,500.
MOST = {
    "cross-entropy/resnet8-small/32/dorefa": 107,
    "cross-entropy/resnet8-small/4/dorefa": 107,
    "cross-entropy/resnet8-small/4/lsq": 132,
    "cross-entropy/resnet8-small/4/pact": 113,
    "soft/resnet8-small/4/dorefa": 174,
    "rkd/resnet8-small/4/dorefa": 274,
    "kd-svd/resnet8-small/4/dorefa": 826,
    "mhgd/resnet8-small/4/dorefa": 834,
    "ii-kd/resnet8-small/4/dorefa": 1036,
}
MOST_LARGE = {
    "ii-kd/resnet18/4/dorefa": 1350,
}


def run(arguments):
    """What `cases.py` found, by case."""
    path = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, HERE / "cases.py", *arguments]
    found = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=580
    )
    assert found.returncode == 0, found.stderr
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["case"] for line in lines] == list(arguments)
    return {line["case"]: line for line in lines}


@pytest.fixture(scope="module")
def small(fake_device):
    return run(["--planted", *SMALL])


@pytest.fixture(scope="module")
def large(fake_device):
    return run(LARGE)


def line_of(fault):
    """Where the fault is: the first line of its body."""
    lines = (HERE / "faults.py").read_text("utf-8").splitlines()
    return lines.index(f"def {fault}(x):") + 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen_with_its_line(small, fault):
    found = small["--planted"][fault]
    if FAULTS[fault] is None:
        assert found["error"] == "FakeTensorDeviceMismatchError"
        return
    (note,) = [note for note in found["notes"] if note.startswith(FAULTS[fault])]
    offset = 2 if fault == "strides_apart" else 0
    assert note.endswith(f" at gpu/faults.py:{line_of(fault) + offset} in {fault}")


def test_what_is_sound_raises_no_alarm(small):
    assert small["--planted"]["sound"] == {"notes": {}, "error": None}


def test_what_cuda_cannot_record_is_refused(small):
    found = small["--planted"]["while recording"]
    assert set(found) == {"value_read", "pageable_copy", "copy_to_the_cpu"}
    for fault, text in found.items():
        assert text.startswith("operation not permitted when stream is capturing"), text
        assert text.endswith(f" at gpu/faults.py:{line_of(fault)} in {fault}")


def check(found):
    assert found["error"] is None
    for phase in ("step", "epoch", "evaluation"):
        assert found["violations"][phase] == [], phase
    assert found["launches"] > 50


@pytest.mark.parametrize("case", SMALL)
def test_nothing_waits_in_steps_epochs_and_evaluations(small, case):
    check(small[case])


@pytest.mark.parametrize("case", MOST)
def test_a_step_launches_no_more_than_it_did(small, case):
    assert small[case]["launches"] <= MOST[case]


@pytest.mark.slow
@pytest.mark.parametrize("case", MOST_LARGE)
def test_a_step_of_the_papers_network_launches_no_more_than_it_did(large, case):
    assert large[case]["launches"] <= MOST_LARGE[case]


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGE)
def test_nothing_waits_in_the_papers_networks(large, case):
    check(large[case])
