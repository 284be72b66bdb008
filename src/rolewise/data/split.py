"""Images in memory: a `Split` is what one trains or measures on, `Data` is a data set with its splits."""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from rolewise.errors import InputError, check_integer

Channels = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, and the constants that normalise them: (x / 255 - mean) / std, per channel.

    Args:
        images: RGB.
        labels: 0 to the number of classes - 1.
        ids: position of each image in the training (or test) part of its data set; keys random streams.
        classes: names, by label.
        mean: per channel, of the images scaled to 0..1.
        std: per channel, likewise; positive.
    Raises:
        InputError: no images, lengths that differ, a label out of range, a constant that cannot divide.
    """

    images: UInt8[Tensor, "n h w 3"]
    labels: Int64[Tensor, " n"]
    ids: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    mean: Channels
    std: Channels

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[3] != 3 or 0 in shape or self.images.dtype != torch.uint8:
            raise InputError(
                f"`images` must be uint8 (n, h, w, 3), none of them 0, got {self.images.dtype} {shape}."
            )
        for name, values in (("labels", self.labels), ("ids", self.ids)):
            if values.dtype != torch.int64 or tuple(values.shape) != shape[:1]:
                came = f"{values.dtype} {tuple(values.shape)}"
                raise InputError(
                    f"`{name}` must be int64 ({shape[0]},) as there are {shape[0]} images, got {came}."
                )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise InputError(
                f"`labels` must lie in 0..{len(self.classes) - 1} (the classes), got {low}..{high}."
            )
        if not all(math.isfinite(m) for m in self.mean) or not all(
            math.isfinite(s) and s > 0 for s in self.std
        ):
            raise InputError(f"`mean` must be finite and `std` positive, got {self.mean} and {self.std}.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """How many classes the data set has, whether or not each occurs here."""
        return len(self.classes)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    def subset(self, indices: Int64[Tensor, " m"]) -> "Split":
        """The images at these positions, in this order, with the same constants."""
        return replace(self, images=self.images[indices], labels=self.labels[indices], ids=self.ids[indices])


class Data:
    """A data set: its training images, and its test images, which are read at first access.

    Args:
        name: as a person typed it.
        train: the whole training part.
        read_test: gives the test part; called once, at the first access to `test`.
        sizes: default numbers of images of `reduced`: (train, validation).
        constants: published (mean, std) by number of images of a reduced training part; others are computed.
        source: where the images came from, for people.
        skipped: files that could not be read and were left out, where the caller asked for that.
    """

    def __init__(
        self,
        name: str,
        train: Split,
        read_test: Callable[[], Split],
        *,
        sizes: tuple[int, int] | None = None,
        constants: Mapping[int, tuple[Channels, Channels]] | None = None,
        source: str = "",
        skipped: list[str] | None = None,
    ) -> None:
        self.name = name
        self.classes = train.classes
        self.train = train
        self.source = source
        self.skipped = [] if skipped is None else skipped
        self._read_test = read_test
        self._whole = train  # what `reduced` divides, where `limited` leaves less to train on
        self._sizes = sizes or (max(1, len(train) // 10), max(1, len(train) // 2))
        self._constants = dict(constants or {})

    @functools.cached_property
    def test(self) -> Split:
        """The test part; its files are opened at the first access and not before."""
        return self._read_test()

    def reduced(self, train: int | None = None, validation: int | None = None) -> tuple[Split, Split]:
        """Two disjoint splits of *training* images: one to train on in a search, one to score its members.

        The training images are shuffled once by NumPy's legacy `RandomState(0)`; the first `train` of them
        are the one split, the `validation` next the other, so every member of every search sees the same. The
        validation split carries the constants of the training split, since everything is normalised as the
        network was trained.

        Source: section 4.1 of the role-wise paper (4,000 and 36,000 images), the shuffle of the released
            code.

        Args:
            train: number of images, by default 4,000 for CIFAR, 1,077 for digits, 10 % elsewhere.
            validation: number of images, by default 36,000 for CIFAR, 360 for digits, 50 % elsewhere.
        Raises:
            InputError: less than one image, or more than there are.
        """
        total = len(self._whole)
        train = check_integer("train", self._sizes[0] if train is None else train, 1)
        validation = check_integer("validation", self._sizes[1] if validation is None else validation, 1)
        if train + validation > total:
            raise InputError(
                f"`train` + `validation` must be at most {total}, the training images of {self.name}, "
                f"got {train} + {validation}. Give smaller numbers; test images are not used for a search."
            )
        # `shuffle` of an arange, as the released code does it; NumPy has frozen the legacy generator's
        # streams.
        order = np.arange(total)
        np.random.RandomState(0).shuffle(order)
        indices = torch.from_numpy(order.astype(np.int64))
        split = self._whole.subset(indices[:train])
        mean, std = self._constants.get(train) or channel_statistics(split.images)
        split = replace(split, mean=mean, std=std)
        return split, replace(self._whole.subset(indices[train : train + validation]), mean=mean, std=std)

    def limited(self, train: int | None = None, test: int | None = None) -> "Data":
        """The same data set with fewer images to train and to test on.

        `reduced` divides all training images as before, so that the images that `limited(n)` trains on are those of
        `reduced(n)`, and the held-out ones are none of them.

        Args:
            train: number of training images, the first of the shuffle of `reduced`; None: all.
            test: number of test images, the first ones; None: all.
        Raises:
            InputError: less than one image, or more than there are.
        """
        split = self._whole
        if train is not None:
            check_integer("train", train, 1, len(split))
            split = self.reduced(train, 1)[0] if train < len(split) else split
        if test is not None:
            check_integer("test", test, 1)

        def read_test() -> Split:
            whole = self.test
            if test is not None and test > len(whole):
                raise InputError(
                    f"`test` must be at most {len(whole)}, the test images of {self.name}, got {test}."
                )
            return whole if test is None else whole.subset(torch.arange(test))

        limited = Data(
            self.name,
            split,
            read_test,
            sizes=self._sizes,
            constants=self._constants,
            source=self.source,
            skipped=self.skipped,
        )
        limited._whole = self._whole
        return limited

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the training images' shape and bytes, then their labels (int64, little-endian)."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr(tuple(self.train.images.shape)).encode())
        digest.update(self.train.images.contiguous().numpy().data)
        digest.update(self.train.labels.numpy().astype("<i8").data)
        return digest.hexdigest()


def channel_statistics(images: UInt8[Tensor, "n h w 3"]) -> tuple[Channels, Channels]:
    """Mean and (population) standard deviation of each channel, of pixels scaled to 0..1.

    Counts of the 256 values make the sums exact integers, so neither the order of the images nor the number
    of threads matters. A channel with one value only gets 1 as standard deviation: it is 0 after
    normalisation anyhow.
    """
    mean, std = [], []
    for channel in range(3):
        counts = [int(c) for c in torch.bincount(images[..., channel].reshape(-1), minlength=256)]
        n = sum(counts)
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value * value * count for value, count in enumerate(counts))
        mean.append(first / (255 * n))
        std.append(math.sqrt(n * second - first * first) / (255 * n) or 1.0)
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
