"""Trains eager and compiled networks side by side and prints how far they part; `test_forward.py` runs it.

In a process of its own: the checks of shapes that tests install are nothing that a compiler can follow.
"""

import json

import torch
from torch import nn

from rolewise.kd.base import KDLoss
from rolewise.objective import CrossEntropy, Distill, Placement


class Net(nn.Module):
    taps = ("one", "two")

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 6, 3, 2, padding=1), nn.ReLU())
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(self.two(self.one(x)).mean((2, 3)))


class Split:
    images = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    labels = torch.zeros(4, dtype=torch.int64)
    mean, std = (0.5,) * 3, (0.25,) * 3


class MeanSquare(KDLoss):
    clip = True

    def forward(self, student, teacher):
        return sum(((s - t) ** 2).mean() for s, t in zip(student.features, teacher.features, strict=True))


def batches(count=3):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        labels = torch.randint(0, 5, (8,), generator=generator)
        yield torch.randn(8, 3, 8, 8, generator=generator), labels, torch.arange(8)


def followed(*, compiled):
    """What three steps of plain gradient descent report, with both gradients and with one."""
    found = []
    for task in (Distill(Net(1).eval(), MeanSquare()), CrossEntropy()):
        model = Net(0).train()
        task.bind(model, Split(), Placement(torch.device("cpu"), compile=compiled), seed=0)
        task.set_epoch(0, 0)
        for images, labels, ids in batches():
            model.zero_grad()
            found.append(task.backward(model, images, labels, ids))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.05 * parameter.grad
        found += [parameter.detach() for parameter in model.parameters()]
    return found


def main():
    eager, compiled = followed(compiled=False), followed(compiled=True)
    counters = torch._dynamo.utils.counters
    shown = {
        "values": len(eager),
        "differences": [(a - b).abs().max().item() for a, b in zip(eager, compiled, strict=True)],
        "sizes": [a.abs().max().item() for a in eager],
        "graphs": counters["stats"]["unique_graphs"],
        "breaks": list(counters["graph_break"]),
    }
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
