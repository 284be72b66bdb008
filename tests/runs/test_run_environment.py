"""What a run says about versions and hardware."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

import rolewise
from rolewise.runs import environment
from rolewise.runs.environment import changes


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_versions_and_hardware() -> None:
    found = environment()
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["versions"]["rolewise"] == rolewise.__version__
    hardware = found["hardware"]
    assert hardware["threads"] == torch.get_num_threads()
    assert 1 <= hardware["cores"] <= (os.cpu_count() or 1)
    assert len(hardware["gpus"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert hardware["cpu"]
    assert environment() == found  # no time, no process id


def test_the_commit_is_that_of_the_package_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "rolewise"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(sys.modules["rolewise.runs.environment"], "_PACKAGE", package)
    assert environment()["commit"] is None  # no checkout at all
    git(tmp_path, "init", "-q")
    (tmp_path / "other").write_text("")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-q", "-m", "x")
    assert environment()["commit"] is None  # a checkout of something else
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "y")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert environment()["commit"] == commit
    (package / "__init__.py").write_text("changed")
    assert environment()["commit"] == f"{commit}+"


def test_changes_are_named() -> None:
    before = {"versions": {"torch": "1", "numpy": "2"}, "hardware": {"threads": 1}, "commit": "a"}
    after = {"versions": {"torch": "2", "ray": "3"}, "hardware": {"threads": 2}, "commit": "b"}
    assert changes(before, before) == []
    assert changes(before, after) == [
        "torch 1 -> 2",
        "numpy 2 -> None",
        "ray None -> 3",
        "threads 1 -> 2",
        "commit a -> b",
    ]
