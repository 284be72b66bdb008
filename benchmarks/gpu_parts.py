"""What `gpu_first.py` checks and times: a step in every form, on random images."""

import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
import numpy as np
import torch

import rolewise as rw
from rolewise import kd, networks
from rolewise.data import Data, Split, channel_statistics
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.population.runner import SearchSpec
from rolewise.trainer import Batch, Trainer, student_settings, teacher_settings
from rolewise.trainer.recorded import GraphRecorder, RecordedStep

Figures = dict[str, Any]

# Bits of weights and activations, loss, whether its gradient is clipped (None: as the loss states).
KINDS: dict[str, tuple[int, str | None, bool | None]] = {
    "plain": (32, None, None),
    "4-bit": (4, None, None),
    "4-bit + soft": (4, "soft", None),
    "4-bit + soft, two backwards": (4, "soft", True),  # all of a clipped step but its KD terms
    "4-bit + rkd": (4, "rkd", None),
    "4-bit + kd-svd": (4, "kd-svd", None),
    "4-bit + mhgd": (4, "mhgd", None),
    "4-bit + ii-kd": (4, "ii-kd", None),
}


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Args:
        network: the student's and the teacher's.
        small: a network whose kernels are too short for the device.
        classes: number of classes.
        batch: images a step.
        steps: steps of one timing.
        rounds: timings of each side.
        members: members of a population that are resident at once.
        lanes: numbers of them that are trained at once.
        device: where all of it runs.
        kinds: what of `KINDS` is timed.
    """

    network: str
    small: str
    classes: int
    batch: int
    steps: int
    rounds: int
    members: int
    lanes: tuple[int, ...]
    device: str
    kinds: tuple[str, ...]


def full(device: str) -> Size:
    kinds = ("plain", "4-bit", "4-bit + soft", "4-bit + rkd", "4-bit + ii-kd")
    return Size("resnet18", "resnet8-small", 100, 128, 30, 3, 8, (1, 2, 4), device, kinds)


def smoke(device: str) -> Size:
    return Size("cnn-tiny", "cnn-tiny", 10, 8, 2, 1, 2, (1, 2), device, ("plain", "4-bit + ii-kd"))


@functools.cache
def split(size: Size) -> Split:
    generator = torch.Generator().manual_seed(0)
    n = max(8, 2 * size.steps) * size.batch
    images = torch.randint(0, 256, (n, 32, 32, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, size.classes, (n,), generator=generator)
    classes = tuple(map(str, range(size.classes)))
    return Split(images, labels, torch.arange(n), classes, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def part_of_cifar100(root: Path) -> Data:
    """What there is of CIFAR-100 in `root`/cifar-100-binary, where the whole did not fit into one transport.

    A record is the coarse label, the label and 3,072 pixels, red, green and blue planes.
    """
    names = tuple((root / "cifar-100-binary" / "fine_label_names.txt").read_text("utf-8").split())

    def read(name: str, statistics: Any = None) -> Split:
        records = np.fromfile(root / "cifar-100-binary" / f"{name}.bin", np.uint8).reshape(-1, 2 + 3072)
        images = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        pixels, labels = torch.from_numpy(images.copy()), torch.from_numpy(records[:, 1].astype(np.int64))
        return Split(
            pixels, labels, torch.arange(len(labels)), names, *(statistics or channel_statistics(pixels))
        )

    train = read("train")
    return Data("cifar100", train, lambda: read("test", (train.mean, train.std)), source=f"part of {root}")


def network(size: Size, seed: int) -> Any:
    model = networks.build(size.network, num_classes=size.classes)
    model.reset(torch.Generator().manual_seed(seed))
    return model


@functools.cache
def _objective(size: Size, loss: str, clip: bool | None) -> Objective:
    made = Distill(network(size, 1).eval(), kd.LOSSES[loss](), clip=clip, prepare_epochs=1)
    made.prepare(split(size).subset(torch.arange(2 * size.batch)), seed=0, device=size.device)
    return made


def _training(size: Size, kind: str, seed: int, changes: dict[str, Any]) -> tuple[Any, Objective, Any]:
    """Network, objective and settings of a kind."""
    bits, loss, clip = KINDS[kind]
    model = network(size, seed)
    if bits < 32:
        rw.quantize(model, bits, bits)
    task = CrossEntropy() if loss is None else copy.deepcopy(_objective(size, loss, clip))
    settings = teacher_settings if bits == 32 else student_settings
    numbers = {"batch_size": size.batch, "precision": "bf16", "device": size.device, **changes}
    return model, task, settings(10, **numbers)


def trainer(size: Size, kind: str, *, seed: int = 0, **changes: Any) -> Trainer:
    """Ready to step in epoch 5, where the clip's sigmoid is near 1."""
    model, task, settings = _training(size, kind, seed, changes)
    made = Trainer(model, task, split(size), settings, seed=0)
    made.model.train()
    task.set_epoch(5, 0)
    return made


def members(size: Size, kind: str) -> SearchSpec:
    """A population of a kind, an epoch of which is as many steps as a timing."""
    model, task, settings = _training(size, kind, 0, {"threads": 1})
    images = split(size)
    train = images.subset(torch.arange(size.steps * size.batch))
    validation = images.subset(torch.arange(size.batch))
    return SearchSpec(model, task, train, validation, settings.resolved(), 0, "teacher", "given")


def recorded(one: Trainer, batch: Batch) -> RecordedStep:
    """The trainer's step as a CUDA graph, as a training and a search record it."""
    return RecordedStep(one, batch, GraphRecorder())


def batches(one: Trainer, count: int) -> list[Batch]:
    """On the trainer's device."""
    found = [batch for batch, _ in zip(one.feeder.batches(0, None), range(count), strict=False)]
    wait(one.settings.device)
    return found


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
