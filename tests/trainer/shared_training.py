"""Runs under `torchrun`, or alone: trains the cases of `test_parallel.py` and writes what came of them.

python shared_training.py OUT.pt NAME...
"""

import sys

import small_training
import torch
from torch import nn

import rolewise as rw
from rolewise import kd
from rolewise.augment import Schedule
from rolewise.objective import CrossEntropy, Distill
from rolewise.trainer import Trainer, student_settings, teacher_settings
from rolewise.trainer.parallel import join

BATCH, STEPS = 16, 6


class NoNorm(nn.Module):
    """Convolutions without batch normalization."""

    taps = ("one", "two")
    act_points = ("one", "two")

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, padding=1)
        self.one, self.two = nn.ReLU(), nn.ReLU()
        self.second = nn.Conv2d(8, 16, 3, 2, padding=1)
        self.third = nn.Linear(16, 10)

    def forward(self, x):
        x = self.two(self.second(self.one(self.first(x))))
        return self.third(x.mean((2, 3)))


def network(seed, norm):
    if norm:
        return small_training.network(seed)
    model = NoNorm()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return model


def split():
    return small_training.split(BATCH * STEPS)


def trainer(name, group):
    """The names hold the objective (`cross-entropy`, `soft`, `fitnet`), then `clip`, `bn` and `4bit` if they apply."""
    kind, *marks = name.split(":")
    norm = "bn" in marks
    numbers = {"batch_size": BATCH, "precision": "fp32"}
    model = network(0, norm)
    if kind == "cross-entropy":
        task, chosen = CrossEntropy(), teacher_settings(2, lr=0.05, **numbers)
    else:
        if "4bit" in marks:
            rw.quantize(model, 4, 4)
        task = Distill(network(1, norm).eval(), kd.LOSSES[kind](), clip="clip" in marks)
        chosen = student_settings(2, **numbers)
    return Trainer(model, task, split(), chosen, seed=3, role="student", group=group)


def followed(name, group):
    """Loss and everything else of each step (the mean over all processes), the state, an evaluation, the batches."""
    one = trainer(name, group)
    losses, ids, inner = [], [], one.train_step

    def step(batch):
        before = one._sums.clone()
        inner(batch)
        ids.append(batch.ids.clone())
        found = one._sums - before
        losses.append(found if group is None else group.mean_(found))

    one.train_step = step
    schedule = Schedule.random(2, seed=1, interval=1)
    metrics = [one.train_epoch(schedule[epoch]).values for epoch in range(2)]
    measured = one.evaluate(split())
    return {
        "losses": torch.stack(losses),
        "ids": torch.stack(ids),
        "metrics": torch.tensor([list(values.values()) for values in metrics], dtype=torch.float64),
        "evaluation": torch.tensor([measured.accuracy, measured.loss], dtype=torch.float64),
        **{f"state.{key}": tensor for key, tensor in one.state().tensors.items()},
    }


def main():
    torch.set_num_threads(1)
    out, *names = sys.argv[1:]
    group = join("cpu")
    found = {name: followed(name, group) for name in names}
    torch.save(found, f"{out}.{0 if group is None else group.rank}")


if __name__ == "__main__":
    main()
