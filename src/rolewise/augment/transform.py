"""Schedules in other training loops: a callable for any `Compose`, and a data set that keys images by position."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from rolewise.augment.kernels import CUTOUT_COLOR
from rolewise.augment.policy import BasePolicy
from rolewise.augment.schedule import Schedule
from rolewise.errors import InputError, InputTypeError


class ScheduleTransform:
    """A schedule as the callable that a `Compose` takes; call `set_epoch` before each epoch, as for a
    distributed sampler.

    The epoch lies in shared memory, so that persistent workers of a data loader see it too. Without ids
    the random numbers come from Python's `random`, which data loaders seed in each worker; `AugmentedDataset`
    gives ids.

    Args:
        schedule: schedule, or a single policy for all epochs.
        seed: base seed of the ops, used together with ids.
        fill: red, green, blue of exposed pixels, 0 to 255.
    """

    def __init__(
        self, schedule: Schedule | BasePolicy, *, seed: int = 0, fill: Sequence[int] = CUTOUT_COLOR
    ) -> None:
        self.schedule = schedule
        self.seed = seed
        self.fill = fill
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 0."""
        return int(self._epoch)

    @property
    def policy(self) -> BasePolicy:
        """The policy of the current epoch."""
        return self.schedule[self.epoch] if isinstance(self.schedule, Schedule) else self.schedule

    def set_epoch(self, epoch: int) -> None:
        """Chooses the policy of `epoch`.

        Raises:
            InputError: an epoch that the schedule does not have.
        """
        if isinstance(self.schedule, Schedule):
            self.schedule[epoch]
        self._epoch.fill_(epoch)

    def __call__(self, images: Any, ids: Any = None) -> Any:
        """A PIL image, or uint8 tensors or arrays, one or a batch; `ids` as of `Policy.apply`."""
        seed = None if ids is None else self.seed
        return self.policy(images, seed=seed, epoch=self.epoch, ids=ids, fill=self.fill)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.schedule!r}, epoch={self.epoch})"


class AugmentedDataset(Dataset[Any]):
    """A data set whose images are augmented by their position: the same bytes for any batch size, order and
    workers.

    Args:
        dataset: data set that gives `(image, ...)` at each position; the image a PIL image or a uint8 tensor or array.
        transform: transform that augments the image; called with its position as id.
        then: further transform (to tensor, crop, normalize), called with the augmented image; None for nothing.

    Raises:
        InputError: a data set without a length, or, at an item, one that gives images alone.
    """

    def __init__(self, dataset: Any, transform: ScheduleTransform, then: Any = None) -> None:
        if not hasattr(dataset, "__len__"):
            raise InputError(f"`dataset` must have a length, {type(dataset).__name__} has none.")
        self.dataset = dataset
        self.transform = transform
        self.then = then

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        item = self.dataset[index]
        if not isinstance(item, tuple | list):
            raise InputTypeError(
                f"`dataset` must give tuples that begin with the image, item {index} is a {type(item).__name__}: "
                "give (image,) where there is no label."
            )
        image, *rest = item
        image = self.transform(
            image, ids=index % len(self)
        )  # a position counted from the end is that position
        return (image if self.then is None else self.then(image), *rest)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the policy of `epoch`."""
        self.transform.set_epoch(epoch)
