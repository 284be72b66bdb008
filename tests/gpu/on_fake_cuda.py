"""Runs a script where "cuda" is the fake device: python on_fake_cuda.py SCRIPT ARGUMENT..."""

import runpy
import sys
from pathlib import Path

from fake_cuda import fake_cuda  # isort: skip - before torch
import torch

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    with fake_cuda():
        runpy.run_path(sys.argv[0], run_name="__main__")
