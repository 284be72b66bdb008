"""A network called through torch.compile gives the losses that it gives as written; taps included."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
from compiled_steps import Net, batches

from rolewise.kd.base import collect
from rolewise.objective.forward import Forward


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_compiled_and_as_written_agree():
    script = Path(__file__).with_name("compiled_steps.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=280, check=True)
    found = json.loads(done.stdout)
    assert found["graphs"] == 3  # the student, its teacher, the network without a teacher
    assert not found["breaks"]
    assert len(found["differences"]) == found["values"] > 20
    for difference, size in zip(found["differences"], found["sizes"], strict=True):
        assert difference <= 1e-5 + 1e-4 * size


def test_as_written_it_is_collect():
    model, (images, *_) = Net(0).eval(), next(batches())
    found, expected = Forward(model, Net.taps)(images), collect(model, images, Net.taps)
    assert found.logits.equal(expected.logits)
    assert all(a.equal(b) for a, b in zip(found.features, expected.features, strict=True))
    assert not model.one._forward_hooks


def test_another_network_is_called_as_written():
    model, other = Net(0), Net(1)
    forward = Forward(model, Net.taps)
    assert forward.of(model) is forward
    assert forward.of(other).model is other
    assert forward.of(other).taps == Net.taps


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hooks_of_a_compiled_network_go_with_it():
    model = Net(0)
    forward = Forward(model, Net.taps, compiled=True)
    assert len(model.one._forward_hooks) == 1
    del forward
    gc.collect()
    assert not model.one._forward_hooks
