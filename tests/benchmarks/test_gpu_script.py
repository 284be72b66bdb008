"""The GPU script on the CPU, where no other package than those it names is installed, in two portions."""

import functools
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
SCRIPT = ROOT / "benchmarks" / "gpu.py"
ALLOWED = ("torch", "numpy", "numba", "pydantic", "safetensors", "filelock")


def closure(names):
    """Distributions, and those that they themselves need."""
    found, waiting = {}, list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system
        needs = [need for need in found[name].requires or [] if "extra ==" not in need]
        waiting += [re.match(r"[\w.-]+", need)[0] for need in needs]
    return found


@pytest.fixture(scope="module")
def few_packages(tmp_path_factory):
    """A folder that holds the allowed distributions and nothing else."""
    folder = tmp_path_factory.mktemp("few")
    for distribution in closure(ALLOWED).values():
        for file in distribution.files:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    assert {"torch", "numpy", "pydantic_core"} <= set(os.listdir(folder))
    return folder


def python(few_packages, *arguments):
    """Runs without the site's packages."""
    environment = {**os.environ, "PYTHONPATH": str(few_packages), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-S", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_other_packages_are_not_there(few_packages):
    for name in ("jaxtyping", "PIL", "yaml", "rich", "typer", "matplotlib", "pytest", "rolewise"):
        assert "ModuleNotFoundError" in python(few_packages, "-c", f"import {name}").stderr, name
    assert python(few_packages, "-c", "import " + ", ".join(ALLOWED)).returncode == 0


def test_all_of_it_in_two_portions(few_packages, tmp_path):
    call = [SCRIPT, "--out", tmp_path, "--device", "cpu", "--smoke", "--minutes"]
    first = python(few_packages, *call, "0.02")
    assert first.returncode == 75, first.stdout + first.stderr
    before = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert before["figures"]
    second = python(few_packages, *call, "2")
    assert second.returncode == 0, second.stdout + second.stderr
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    for name, figures in before["figures"].items():
        assert "interrupted" in figures or found["figures"][name] == figures
    assert found["options"]["jaxtyping missing"] is True
    assert {"torch", "numpy"} <= set(found["environment"]["versions"])
    assert found["environment"]["commit"]
    figures = found["figures"]
    checks = [name for name in figures if name.startswith("check")]
    assert len(checks) == 3
    assert all(figures[name]["ok"] for name in checks)
    assert len([name for name in figures if name.startswith("throughput")]) == 8
    assert figures["throughput: 4-bit + ii-kd"]["eager"]["images/s"]["median"] > 0
    assert figures["throughput: plain"]["graphed"] == {"left out": "no CUDA device"}
    for name in ("pipeline, eager", "pipeline, graphed"):
        assert [row["key"] for row in figures[name]["rows"]] == ["teacher", "student"]
    assert figures["pipeline, eager"]["stayed eager"] == []
    (reason,) = figures["pipeline, graphed"]["stayed eager"]
    assert re.match(r"eager: .*CUDA", reason)
    assert "verdicts" not in found  # tiny sizes say nothing


@pytest.fixture
def portions(tmp_path):
    from gpu import Portions

    about = {"environment": {"commit": "1"}, "options": {"smoke": False}, "measured": "2026-01-01"}
    return functools.partial(Portions, tmp_path), about


def test_a_failed_check_keeps_the_rest_from_being_timed(portions, capsys):
    from gpu import work

    make, about = portions
    ran = []

    def unit(name, **figures):
        return lambda: ran.append(name) or figures

    todo = {"check: a": unit("a", ok=False), "check: b": unit("b", ok=True), "speed": unit("speed")}
    assert work(make(about), todo, lambda: False, anyway=False) == 1
    assert ran == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == [
        "failed or left out: check: a",
        "failed or left out: speed",
    ]
    assert work(make(about), todo, lambda: False, anyway=True) == 1
    assert ran == ["a", "b", "speed"]


def test_what_failed_is_tried_again_and_what_was_interrupted_goes_on(portions):
    from gpu import work

    from rolewise.errors import Interrupted

    make, about = portions
    ends = iter([RuntimeError("out of memory"), {"a": 1}, Interrupted("amid"), {"a": 2}])

    def unit():
        end = next(ends)
        if isinstance(end, Exception):
            raise end
        return end

    assert work(make(about), {"one": unit}, lambda: False, anyway=False) == 1
    assert make(about).figures["one"]["failed"] == "RuntimeError: out of memory"
    assert work(make(about), {"one": unit}, lambda: False, anyway=False) == 0
    assert work(make(about), {"one": unit, "two": unit}, lambda: False, anyway=False) == 75
    assert work(make(about), {"one": unit, "two": unit}, lambda: False, anyway=False) == 0
    assert [make(about).figures[name]["a"] for name in ("one", "two")] == [1, 2]
    assert work(make(about), {"three": unit}, lambda: True, anyway=False) == 75


def test_other_hardware_needs_another_file(portions):
    from rolewise.errors import InputError

    make, about = portions
    make(about).keep("one", {})
    make({**about, "measured": "2026-01-02"})
    with pytest.raises(InputError, match="of other environment than this call's"):
        make({**about, "environment": {"commit": "2"}})


def test_the_verdicts():
    from gpu import verdicts

    def median(value):
        return {"median": value}

    figures = {
        "throughput: plain": {"graphed": {"images/s": median(39_000), "to eager": median(1.6)}},
        "throughput: 4-bit + ii-kd": {"graphed": {"ms a step": median(10)}},
        "throughput: 4-bit + soft, two backwards": {"graphed": {"ms a step": median(7.5)}},
        "members: plain, 16": {f"{n} streams": {"to one at a time": median(n)} for n in (1, 2)},
        "pipeline, graphed": {"rows": [], "seconds": 1500},
    }
    found = {verdict["what"]: (verdict["measured"], verdict["holds"]) for verdict in verdicts(figures)}
    assert found == {
        "graphed step to eager, plain": (1.6, True),
        "16 members to one at a time": (2, True),
        "share of II-KD's terms in a step": (0.25, False),
        "plain training, images/s": (39_000, False),
        "whole pipeline, minutes": (25, True),
    }
    assert verdicts({}) == []
