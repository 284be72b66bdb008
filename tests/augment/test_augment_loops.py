"""Schedules in other people's loops: Compose, DataLoader workers, the example."""

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from rolewise.augment import AugmentedDataset, Policy, Schedule, ScheduleTransform
from rolewise.errors import InputError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUSY = Policy.from_vector([10, 6] * 30)
SCHEDULE = Schedule([(2, Policy.none()), (3, BUSY)])


class Pictures(Dataset):
    """Any data set of PIL images and labels."""

    def __init__(self, n: int = 13) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (n, 10, 9, 3)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), index % 3


def to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Compose:
    """What everybody's `Compose` does."""

    def __init__(self, *transforms) -> None:
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


def test_set_epoch_chooses_the_policy():
    transform = ScheduleTransform(SCHEDULE, seed=4)
    images, ids = Pictures().images, np.arange(13)
    assert transform.epoch == 0
    np.testing.assert_array_equal(transform(images, ids), images)
    transform.set_epoch(3)
    assert transform.policy == BUSY
    np.testing.assert_array_equal(transform(images, ids), BUSY(images, seed=4, epoch=3, ids=ids))
    with pytest.raises(InputError, match="`epoch` must be an integer from 0 to 4, got 5"):
        transform.set_epoch(5)
    assert repr(transform) == "ScheduleTransform(Schedule(5 epochs in segments of 2, 3), epoch=3)"


def test_a_single_policy_serves_all_epochs():
    transform = ScheduleTransform(BUSY, seed=1, fill=(0, 0, 0))
    transform.set_epoch(1000)
    images = Pictures().images
    np.testing.assert_array_equal(transform(images, 5 * np.ones(13, int)), BUSY(images, seed=1, epoch=1000, ids=[5] * 13, fill=(0, 0, 0)))  # fmt: skip  # noqa: E501


def test_in_a_compose():
    transform = ScheduleTransform(SCHEDULE)
    transform.set_epoch(2)
    compose = Compose(transform, to_tensor)
    image = Pictures()[0][0]
    random.seed(3)
    first, second = compose(image), compose(image)
    assert not torch.equal(first, second)
    random.seed(3)
    assert torch.equal(compose(image), first)


def test_pickling_keeps_the_epoch():
    transform = ScheduleTransform(SCHEDULE, seed=2)
    transform.set_epoch(4)
    copied = pickle.loads(pickle.dumps(transform))
    images = Pictures().images
    np.testing.assert_array_equal(copied(images, range(13)), transform(images, range(13)))


def batches(loader: DataLoader, dataset: AugmentedDataset, epochs: int) -> list[torch.Tensor]:
    found = []
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        images, labels = zip(*loader, strict=True)
        assert torch.equal(torch.cat(labels), torch.arange(13) % 3)
        found.append(torch.cat(images))
    return found


@pytest.mark.parametrize(("workers", "method"), [(0, None), (2, "fork"), (1, "spawn")])
def test_data_loader_workers_give_the_same_bytes(workers, method):
    """Persistent workers hear of each new epoch, although they were started in the first one."""
    if method != "fork":
        check_loader(workers, method)
        return
    # In a process of its own: this one may hold threads of other libraries, with which it cannot be forked.
    code = f"import test_augment_loops; test_augment_loops.check_loader({workers}, {method!r})"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=300
    )


def check_loader(workers, method):
    dataset = AugmentedDataset(Pictures(), ScheduleTransform(SCHEDULE, seed=6), then=to_tensor)
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=method,
    )
    images = Pictures().images
    for epoch, batch in enumerate(batches(loader, dataset, 4)):
        expected = SCHEDULE[epoch](images, seed=6, epoch=epoch, ids=np.arange(13))
        np.testing.assert_array_equal(batch.numpy().transpose(0, 2, 3, 1), expected)


def test_a_data_set_without_length_is_refused():
    with pytest.raises(InputError, match="`dataset` must have a length, generator has none"):
        AugmentedDataset((pair for pair in ()), ScheduleTransform(SCHEDULE))


def test_without_then_the_image_stays_a_pil_image():
    dataset = AugmentedDataset(Pictures(), ScheduleTransform(SCHEDULE, seed=6))
    assert len(dataset) == 13
    image, label = dataset[4]
    assert isinstance(image, Image.Image)
    assert label == 1


def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "published_schedule", raising=False)
    import published_schedule

    return published_schedule


def test_the_example_trains(tmp_path, monkeypatch, capsys):
    path = tmp_path / "schedule.txt"
    Schedule([(6, Policy.none()), (4, Policy([("TranslateX", 8, 3), ("Contrast", 5, 8)] * 2 + [
        (name, 0, 0) for name, _, _ in Policy.none().settings if name not in ("TranslateX", "Contrast")
    ]))]).save(path, form="pba")  # fmt: skip
    accuracy = example(monkeypatch).main([str(path), "--search-epochs", "10", "--epochs", "2"])
    assert accuracy > 0.8
    assert "epoch 2/2: loss" in capsys.readouterr().out


def test_the_example_reads_the_published_file(shared, monkeypatch):
    path = shared / "schedules" / "rcifar10_16_wrn.txt"
    assert example(monkeypatch).main([str(path), "--search-epochs", "200", "--epochs", "1"]) > 0.3
