"""Helpers of these tests: tensors that contain their step, processes that are killed at every crash point."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from rolewise.runs import Checkpoint

CHILDREN = Path(__file__).with_name("crash_children.py")
NOBODY = 65534


def groups(step: int, members: int = 3) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors that contain the step and the member."""
    return {
        f"member-{member:02d}": {
            "weight": torch.full((4, 3), float(100 * step + member)),
            "steps": torch.tensor(step),
            "half": torch.arange(5).to(torch.bfloat16) + member,
        }
        for member in range(members)
    }


def same(checkpoint: Checkpoint, step: int, members: int = 3) -> bool:
    """Whether a checkpoint holds what `groups(step)` gave and a state that says so."""
    expected = groups(step, members)
    return (
        checkpoint.step == step
        and checkpoint.state["step"] == step
        and checkpoint.names == tuple(expected)
        and all(
            checkpoint.tensors(name).keys() == group.keys()
            and all(
                found.dtype == group[key].dtype and torch.equal(found, group[key])
                for key, found in checkpoint.tensors(name).items()
            )
            for name, group in expected.items()
        )
    )


@contextmanager
def powerless() -> Iterator[None]:
    """File permissions hold for root too in this block."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def crash(job: str, folder: Path) -> int:
    """Let a child die at every crash point of `job` (see `crash_children.py`); how many there were."""
    done = subprocess.run([sys.executable, CHILDREN, job, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
