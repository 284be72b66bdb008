"""The epoch's batches, augmented ahead of the network in a background thread."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rolewise._machine import cores
from rolewise.augment import BatchAugmenter, MixPlan, mix_images, mix_labels
from rolewise.data import Split
from rolewise.objective import Placement
from rolewise.seeds import derive_seed, numpy_generator
from rolewise.trainer.settings import TrainSettings

_CHUNK_IMAGES = 1024  # images a job of the thread makes: its overhead is forgotten, they stay in the cache
_AHEAD = 2  # jobs in flight
_MOST_THREADS = 8  # feed any network on one GPU


@dataclass(frozen=True)
class Batch:
    """One step's images (normalized, on the device), labels and positions in the data set.

    Labels are classes `(n,)`, or the probabilities `(n, k)` of mixed images. `plan` is there until they are mixed.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    plan: MixPlan | None = None


def feeding_threads(device: torch.device, feeders: int = 1) -> int:
    """Number of threads that augment for each feeder: 1 for a CPU, whose cores train; for a GPU at most 8.

    A small network takes more images than one thread makes. Half of this process's cores are shared by its feeders.

    Args:
        device: device that the batches are for.
        feeders: number of feeders that work at the same time.
    """
    if device.type == "cpu":
        return 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(_MOST_THREADS, cores() // (2 * processes * feeders)))


class Feeder:
    """Order, augmentation and transport of a split's batches: functions of (seed, role, member, epoch) alone.

    Args:
        split: training images.
        settings: batch size, crop, flip, cutout.
        placement: device, dtype and memory format of the batches.
        key: key of the random streams, such as (seed, role, member).
        share: this process's part of every batch; None is the whole.
        threads: number of threads over which the images of a job are spread; does not change a byte.
    """

    def __init__(
        self,
        split: Split,
        settings: TrainSettings,
        placement: Placement,
        key: tuple[int | str | None, ...],
        share: slice | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self.split, self.placement, self.key, self.share = split, placement, key, share
        self.batch_size = settings.batch_size
        self.steps = len(split) // settings.batch_size
        self._augment = BatchAugmenter(
            split.mean,
            split.std,
            crop=settings.crop,
            flip=settings.flip,
            cutout=settings.cutout,
            size=split.image_size,
            resized=settings.random_resized_crop,
            threads=threads,
        )
        self._seed = derive_seed(*key, "augment")
        self._mixing = settings.mixing
        self._highest = int(split.ids.max()) + 1 if self._mixing is not None and len(split) else 0

    def batches(self, epoch: int, policy: Any, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of one epoch from the step `start` on; the next are made while one is used."""
        order = torch.from_numpy(numpy_generator(*self.key, "order", epoch).permutation(len(self.split)))
        jobs = self._chunks(start)
        mixing = self._mixer(epoch)
        with ThreadPoolExecutor(1, thread_name_prefix="rolewise-feed") as pool:
            waiting: deque[Future[list[Batch]]] = deque()

            def ask() -> None:
                chunk = next(jobs, None)
                if chunk is not None:
                    waiting.append(pool.submit(self._make, order, chunk, epoch, policy, mixing))

            for _ in range(_AHEAD):
                ask()
            try:
                while waiting:
                    made = waiting.popleft().result()
                    ask()
                    for batch in made:
                        yield self._send(batch)
            finally:
                for job in waiting:
                    job.cancel()

    def _chunks(self, start: int) -> Iterator[range]:
        """Ranges of steps; the first is one batch, so that the network starts at once."""
        size, most = 1, max(1, _CHUNK_IMAGES // self.batch_size)
        while start < self.steps:
            yield range(start, min(start + size, self.steps))
            start, size = start + size, min(2 * size, most)

    def _mixer(self, epoch: int) -> Callable[[Tensor], MixPlan] | None:
        """Function that plans the mixing of the images with given ids in this epoch; None where none are mixed."""
        if self._mixing is None:
            return None
        draws, (height, width) = self._mixing.draws(self._seed, epoch, self._highest), self.split.image_size
        return partial(self._mixing.plan, draws, height=height, width=width)

    def _make(
        self,
        order: Tensor,
        steps: range,
        epoch: int,
        policy: Any,
        mixing: Callable[[Tensor], MixPlan] | None,
    ) -> list[Batch]:
        n = self.batch_size
        index = order[steps.start * n : steps.stop * n]
        if self.share is not None:
            index = index.view(-1, n)[:, self.share].flatten()
            n = self.share.stop - self.share.start
        ids = self.split.ids[index]
        stored, positions = self.split.source(index)
        images = self._augment(
            stored,
            index=positions,
            policy=policy,
            seed=self._seed,
            epoch=epoch,
            ids=ids,
            dtype=self.placement.dtype,
            channels_last=self.placement.channels_last,
        )
        labels = self.split.labels[index]
        place = self.placement
        images, labels, ids = (place.pin(tensor) for tensor in (images, labels, ids))
        plan = None if mixing is None else MixPlan(*(place.pin(tensor) for tensor in mixing(ids)))
        return [
            Batch(
                images[k : k + n],
                labels[k : k + n],
                ids[k : k + n],
                None if plan is None else plan.part(k, k + n),
            )
            for k in range(0, len(index), n)
        ]

    def _send(self, batch: Batch) -> Batch:
        """The batch on the device, its images mixed there."""
        images, labels, ids = (self.placement.send(x) for x in (batch.images, batch.labels, batch.ids))
        if batch.plan is None:
            return Batch(images, labels, ids)
        plan = batch.plan.to(self.placement.device)
        return Batch(mix_images(images, plan), mix_labels(labels, plan, self.split.num_classes), ids)
