"""Networks trained on real images for a few seconds."""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rolewise.data import Split
from rolewise.networks import build
from rolewise.quant import frozen_weights, quantize

BATCH = 32


@dataclass
class Trained:
    """A teacher and its 2- and 4-bit students, with real images to measure them on."""

    name: str
    images: Tensor
    labels: Tensor
    teacher: nn.Module
    students: dict[int, nn.Module] = field(default_factory=dict)


def normalized(split: Split, constants: Split) -> Tensor:
    pixels = split.images.float() / 255
    found = (pixels - torch.tensor(constants.mean)) / torch.tensor(constants.std)
    return found.permute(0, 3, 1, 2).contiguous()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad(), frozen_weights(model):
        return (model.eval()(images).argmax(1) == labels).float().mean().item()


def fit(
    model: nn.Module, images: Tensor, labels: Tensor, epochs: int, optimizer: torch.optim.Optimizer
) -> None:
    generator = torch.Generator().manual_seed(0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        optimizer.param_groups[0]["lr"],
        total_steps=epochs * (len(images) // BATCH),
        cycle_momentum=False,
    )
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            if len(batch) == BATCH:
                loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    model.eval()


def small_alexnet(classes: int) -> nn.Module:
    """AlexNet's kind for a CPU: quantized ReLUs before the pools, and a hidden linear layer."""
    layers: list[nn.Module] = []
    for inputs, outputs, size, stride in ((3, 16, 5, 2), (16, 24, 5, 1), (24, 32, 3, 1)):
        layers += [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(32 * 4, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()]
    layers.append(nn.Linear(64, classes))
    model = nn.Sequential(*layers)
    model.act_points = ("2", "6", "10", "15")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, generator=generator)
    return model


def trained(
    name: str,
    network: str | nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    epochs: int,
) -> Trained:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    teacher = build(network) if isinstance(network, str) else network
    sgd = torch.optim.SGD(teacher.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    fit(teacher, *train, epochs, sgd)
    found = Trained(name, *test, teacher)
    for bits in (2, 4):
        student = quantize(copy.deepcopy(teacher), bits, bits)
        fit(student, *train, max(2, epochs // 2), torch.optim.Adam(student.parameters(), 3e-3))
        found.students[bits] = student
    torch.set_num_threads(threads)
    return found
