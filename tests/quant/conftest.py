"""Lets these tests import the slow references in `tests/reference`."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))


@pytest.fixture(autouse=True)
def one_thread():
    """Bytes depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
