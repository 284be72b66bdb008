"""The public names: a new one is a deliberate change in two places, this being the second."""

import inspect
import subprocess
import sys

import pytest

import rolewise as rw

PUBLIC = [
    "Schedule", "Policy", "load_data", "Data", "search", "train", "Result", "CrossEntropy", "Distill", "kd", "networks",
    "quantize", "export", "load_network", "save_pretrained", "from_pretrained",
]  # fmt: skip


def test_public_names():
    assert rw.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(rw, name) is not None
    assert set(PUBLIC) <= set(dir(rw))


def test_signatures_that_other_programs_call():
    search = inspect.signature(rw.search).parameters
    assert list(search)[:2] == ["model", "data"]
    defaults = {
        name: search[name].default
        for name in ("objective", "population", "epochs", "interval", "init", "seed", "out")
    }
    assert defaults == {
        "objective": None, "population": 16, "epochs": 200, "interval": 3, "init": None, "seed": 0, "out": None,
    }  # fmt: skip
    train = inspect.signature(rw.train).parameters
    assert list(train)[:2] == ["model", "data"]
    assert {"objective", "augment", "epochs"} <= set(train)
    assert train["epochs"].default is inspect.Parameter.empty
    assert list(inspect.signature(rw.quantize).parameters)[:5] == [
        "model",
        "weight_bits",
        "act_bits",
        "act_points",
        "skip",
    ]


def test_import_alone_loads_nothing_heavy():
    code = "import sys, rolewise; print(sorted({'torch', 'numba', 'numpy', 'pydantic'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="nothing"):
        rw.nothing  # noqa: B018
