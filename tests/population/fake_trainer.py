"""A stand-in for `Trainer` that takes microseconds a step and misbehaves on command.

Its weights after a step are a function of the weights before and of (seed, role, member, epoch, step,
policy), as a real trainer's are, so that any mistake about states, policies or members shows in the numbers.
"""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rolewise.data import Data, Split
from rolewise.errors import Interrupted
from rolewise.objective import Placement
from rolewise.trainer import State
from rolewise.trainer.evaluation import EpochMetrics, Evaluation

STEPS = 3
Place = tuple[int, int]  # member, 0-based epoch


@dataclass(frozen=True)
class Script:
    """What goes wrong, where.

    Args:
        notes: folder in which each evaluation, and each accident that happened, leaves a file.
        crash: places where the process ends, the first `crashes` times that one is reached.
        hang: places where it stays for ever, once.
        diverge: places where the loss is not a number.
        error: place and exception.
        step_seconds: sleep in each step; evaluation_seconds: in an evaluation.
        state_bytes: additional size of the state.
    """

    notes: Path
    crash: frozenset[Place] = frozenset()
    crashes: int = 1
    hang: frozenset[Place] = frozenset()
    diverge: frozenset[Place] = frozenset()
    error: tuple[Place, Exception] | None = None
    step_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    state_bytes: int = 0

    def happened(self, what: str) -> int:
        """How often `what` had happened before; notes that it does now."""
        count = 0
        while True:
            try:
                os.close(os.open(self.notes / f"{what}-{count}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                count += 1
            else:
                return count


class FakeTrainer:
    """Has what `run_interval` needs of a `Trainer`."""

    def __init__(self, model, objective, split, settings, *, seed, role, member, script):
        self.model, self.settings, self.script = model, settings, script
        self.seed, self.role, self.member = seed, role, member
        self.should_stop = lambda: False
        self.progress = None
        self.epoch = self.step = 0
        self.steps = STEPS
        self.placement = Placement(torch.device("cpu"))
        self.ballast = torch.zeros(script.state_bytes, dtype=torch.uint8)

    def set_member(self, member):
        self.member = member

    def train_epoch(self, policy):
        place = self.member, self.epoch
        while self.step < self.steps:
            if self.should_stop():
                raise Interrupted("stopped")
            self._accidents(place)
            time.sleep(self.script.step_seconds)
            key = f"{self.seed} {self.role} {self.member} {self.epoch} {self.step} {policy.to_json()}"
            digest = hashlib.sha256(key.encode()).digest()
            with torch.no_grad():
                for parameter in self.model.parameters():
                    noise = np.frombuffer(digest, np.uint8)[: parameter.numel()].reshape(parameter.shape)
                    parameter.mul_(0.9).add_(torch.from_numpy(noise / 2550).float())
            self.step += 1
            self.progress.batch(self.settings.batch_size)
        self.epoch, self.step = self.epoch + 1, 0
        loss = float("nan") if place in self.script.diverge else 1 / self.epoch
        return EpochMetrics({"loss": loss, "accuracy": 0.5})

    def _accidents(self, place):
        script, (member, epoch) = self.script, place
        if script.error is not None and script.error[0] == place:
            raise script.error[1]
        if place in script.crash and script.happened(f"crash-{member}-{epoch}") < script.crashes:
            os._exit(7)
        if place in script.hang and script.happened(f"hang-{member}-{epoch}") == 0:
            time.sleep(1000)

    def evaluate(self, split):
        if self.should_stop():
            raise Interrupted("stopped")
        self.script.happened(f"evaluation-{self.member}")
        time.sleep(self.script.evaluation_seconds)
        total = sum(float(parameter.detach().double().sum()) for parameter in self.model.parameters())
        return Evaluation(accuracy=(total * 1000) % 1, loss=0.5, n=len(split))

    def state(self):
        tensors = {f"model.{name}": tensor.clone() for name, tensor in self.model.state_dict().items()}
        return State({**tensors, "ballast": self.ballast.clone()}, {"epoch": self.epoch, "step": self.step})

    def load_state(self, state):
        self.model.load_state_dict(state.part("model"))
        self.epoch, self.step = state.info["epoch"], state.info["step"]


class Small(nn.Module):
    """A network of six numbers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x.mean((2, 3))[:, :2])


def small_data(images: int = 40) -> Data:
    """Noise in two classes."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (images, 4, 4, 3), dtype=np.uint8))
    split = Split(pixels, torch.arange(images) % 2, torch.arange(images), ("a", "b"), (0.5,) * 3, (0.25,) * 3)
    return Data("noise", split, lambda: split, sizes=(images // 2, images // 2))
