"""Makes "cuda" the fake device in every Python process that has this folder on its `PYTHONPATH`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from fake_cuda import fake_cuda  # isort: skip - before torch
import torch

torch.set_num_threads(1)
device = fake_cuda()
device.__enter__()  # until the process ends
