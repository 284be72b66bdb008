"""What a plan takes, before any of it is done: work, images, device-hours, bytes."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from rolewise import networks
from rolewise._machine import in_words
from rolewise.config import Config
from rolewise.data import load_data
from rolewise.experiments.plan import Work, training
from rolewise.experiments.recipes import Options
from rolewise.experiments.setups import Cell
from rolewise.seeds import torch_generator
from rolewise.stages.estimate import bytes_needed
from rolewise.trainer import TrainSettings, torch_threads

_IMAGES = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000)}
_CLASSES = {"cifar10": 10, "cifar100": 100}
_CIFAR = (3, 32, 32)  # channels, height, width
_FORWARD = 1 / 3  # part of a training step that an evaluation, or the teacher's half of a distillation, takes
_SECOND_BACKWARD = 2 / 3  # what a second backward pass adds to a step
_FLOAT = 4


@dataclass(frozen=True)
class Load:
    """What one piece of work takes.

    Args:
        trained: images that are trained on.
        evaluated: images that are evaluated.
        seconds: approximate time on one device of this machine.
        kept: bytes that stay.
        peak: bytes of checkpoints while it runs.
    """

    trained: int
    evaluated: int
    seconds: float
    kept: int
    peak: int


def estimate(cells: Sequence[Cell], work: Sequence[Work], seeds: Iterable[int], options: Options) -> str:
    """The plan in words: what is shared, images, device-hours and bytes.

    Nothing is written and no data are read; a few steps of each network are timed on random images. The losses' own
    computations are left out, so that device-hours are a lower bound for II-KD, KD-SVD and MHGD.
    """
    rates = _Rates()
    loads = [_load(one, options, rates) for one in work]
    seconds = sum(load.seconds for load in loads)
    users = Counter(name for cell in cells for seed in seeds for name in _behind(cell, seed))
    shared = [(name, count) for name, count in users.items() if count > 1]
    kinds = Counter(one.kind for one in work)
    lines = [
        f"{len(cells)} cells: {kinds['search']} searches and {kinds['train']} trainings ({options.title})",
        f"{len(shared)} of them serve several cells:",
        *(f"  {name}: {count} cells" for name, count in sorted(shared, key=lambda one: -one[1])),
        f"{sum(load.trained for load in loads):,} images trained on, "
        f"{sum(load.evaluated for load in loads):,} evaluated",
        f"about {seconds / 3600:,.1f} device-hours on {rates.device_name} ({in_words(seconds)}), the losses' own "
        "computations left out",
        f"about {sum(load.kept for load in loads) / 1e6:,.0f} MB stay, and up to "
        f"{max((load.peak for load in loads), default=0) / 1e6:,.0f} MB of checkpoints for each piece of work at once",
        *(f"{one.name}: about {in_words(load.seconds)}" for one, load in zip(work, loads, strict=True)),
    ]
    return "\n".join(lines)


def _behind(cell: Cell, seed: int) -> tuple[str, ...]:
    work = training(cell.setup, seed)
    return (work.name, *work.needs)


class _Rates:
    """Seconds that one image takes in training, by network, measured here."""

    def __init__(self) -> None:
        settings = TrainSettings(1, device="auto").resolved()
        self.placement = settings.placement()
        self._seconds: dict[tuple[str, int], tuple[float, int]] = {}
        self._peaks: dict[tuple[str, str | None, int, int], int] = {}

    @property
    def device_name(self) -> str:
        """The device on which steps are timed."""
        device = self.placement.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else "one processor core"

    def of(self, name: str, classes: int) -> tuple[float, int]:
        """(seconds per image, number of parameters)."""
        if (name, classes) not in self._seconds:
            with torch_threads(1):
                self._seconds[name, classes] = self._measure(name, classes)
        return self._seconds[name, classes]

    def peak(self, config: Config, classes: int) -> int:
        """Bytes of the checkpoints of one run at most."""
        key = (config.teacher.network, config.student.network, config.search.population, classes)
        if key not in self._peaks:
            self._peaks[key] = bytes_needed(config, classes, _CIFAR)
        return self._peaks[key]

    def _measure(self, name: str, classes: int) -> tuple[float, int]:
        device = self.placement.device
        count = 256 if device.type == "cuda" else 32
        model = self.placement.place(networks.build(name, num_classes=classes)).train()
        images = torch.rand(count, *_CIFAR, generator=torch_generator(0, "estimate")).to(device)
        labels = torch.zeros(count, dtype=torch.int64, device=device)
        # Other work on a CPU does not count.
        clock = time.monotonic if device.type == "cuda" else time.process_time
        times = []
        for _ in range(3):
            begun = clock()
            with self.placement.autocast():
                loss = F.cross_entropy(model(images).float(), labels)
            torch.autograd.backward(loss)
            float(loss.detach())  # waits for the device
            times.append(clock() - begun)
        return min(times[1:]) / count, sum(p.numel() for p in model.parameters())


def _load(work: Work, options: Options, rates: _Rates) -> Load:
    config = work.config(options)
    data = str(config.teacher.search_data or config.data.name) if work.role == "teacher" else config.data.name
    data = data if work.kind == "search" else config.data.name
    train, test = _sizes(data, config)
    classes = _CLASSES.get(data, 10)
    second, parameters = rates.of(_network(work, config), classes)
    teacher, teacher_parameters = rates.of(config.teacher.network, classes)
    kept = _FLOAT * (parameters + (teacher_parameters if work.teacher else 0))
    step = second + (_FORWARD * teacher if config.kd.loss != "none" and work.role == "student" else 0)
    if config.kd.loss in ("mhgd", "kd-svd", "ii-kd") and work.role == "student":
        step += _SECOND_BACKWARD * second
    evaluated = 2 * test if work.teacher is not None else 0
    if work.kind == "search":
        one, batch = config.search, config.search.batch_size or config.role(work.role).train.batch_size
        trained = one.population * one.epochs * ((config.data.search_train or train // 10) // batch) * batch
        rounds = one.epochs // one.interval
        evaluated += one.population * rounds * (config.data.search_validation or train // 2)
    else:
        section = config.role(work.role).train
        trained = section.epochs * (train // section.batch_size) * section.batch_size
        evaluated += 2 * test
        kept += _FLOAT * test * classes
    seconds = trained * step + evaluated * _FORWARD * second
    return Load(trained, evaluated, seconds, kept, rates.peak(config, classes))


def _network(work: Work, config: Config) -> str:
    return (
        config.teacher.network if work.role == "teacher" else config.student.network or config.teacher.network
    )


def _sizes(data: str, config: Config) -> tuple[int, int]:
    if data in _IMAGES:
        train, test = _IMAGES[data]
    else:
        loaded = load_data(data, config.data.root, size=config.data.size)
        train, test = len(loaded.train), len(loaded.test)
    return config.data.train_images or train, config.data.test_images or test
