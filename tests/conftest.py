"""Shared fixtures: published data where they lie beside the project; tests that need them skip otherwise."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck
from hypothesis import settings as drawn
from jaxtyping import install_import_hook

# Shapes and types are checked while tests run. The kernels are left out: Numba compiles functions, not wrappers.
install_import_hook(
    [
        f"rolewise.{part}"
        for part in ("kd", "networks", "quant", "objective", "trainer.loop", "data", "augment.policy")
    ],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples everywhere and at any speed: what passes here passes there.
drawn.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
drawn.load_profile("same")

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """What a test draws without a seed of its own does not depend on the tests before it."""
    torch.manual_seed(20_201)


@pytest.fixture(scope="session")
def fake_device() -> None:
    """Skips where `tests/gpu/fake_cuda.py` cannot be: it is compiled, and takes the place of CUDA in PyTorch."""
    if torch.version.cuda:
        pytest.skip("this PyTorch is built for CUDA; the fake device needs a CPU build")
    if shutil.which("g++") is None:
        pytest.skip("g++, which compiles the fake device, is not there")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the published data sets and schedules."""
    if not SHARED.is_dir():
        pytest.skip("the published data sets and schedules do not lie beside the project")
    return SHARED.resolve()


def _unpacked(shared: Path, name: str, folder: str) -> Path:
    root = Path(tempfile.gettempdir()) / f"rolewise-test-data-{os.getuid()}"
    root.mkdir(exist_ok=True)
    with FileLock(root / f"{name}.lock"):
        if not (root / folder).is_dir():  # the script writes elsewhere and renames at the end
            unpack = [sys.executable, str(shared / "data" / "unpack.py"), name, str(root)]
            subprocess.run([*unpack, "--format", "python", "--check"], check=True, capture_output=True)
    return root


@pytest.fixture(scope="session")
def cifar10_root(shared: Path) -> Path:
    """A folder with the real `cifar-10-batches-py`."""
    return _unpacked(shared, "cifar10", "cifar-10-batches-py")


@pytest.fixture(scope="session")
def cifar100_root(shared: Path) -> Path:
    """A folder with the real `cifar-100-python`."""
    return _unpacked(shared, "cifar100", "cifar-100-python")
