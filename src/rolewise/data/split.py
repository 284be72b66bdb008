"""A set of images to train or to measure on, and the statistics that normalize it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from rolewise.data.images import StoredImages
from rolewise.errors import InputError

Channels = tuple[float, ...]  # one number for gray, three for RGB
_CHUNK = 2**25  # bytes of images that are counted or hashed at a time


@dataclass(frozen=True, eq=False)
class Split:
    """Labeled images, and the constants that normalize them: (x / 255 - mean) / std, per channel.

    Args:
        images: RGB (3 channels) or gray (1); a tensor, or what reads like one and is stored in another form.
        labels: 0 to the number of classes - 1.
        ids: position of each image in the training (or test) part of its data set; keys random streams.
        classes: names, by label.
        mean: per channel, of the images scaled to 0..1.
        std: per channel, likewise; positive.
    Raises:
        InputError: no images, lengths that differ, a label out of range, a constant that cannot divide.
    """

    images: UInt8[Tensor, "n h w c"] | StoredImages
    labels: Int64[Tensor, " n"]
    ids: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    mean: Channels
    std: Channels

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape or self.images.dtype != torch.uint8:
            raise InputError(
                "`images` must be uint8 (n, h, w, 3) or (n, h, w, 1), none of them 0, got "
                f"{self.images.dtype} {shape}. Data.from_arrays takes other forms."
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
        if len(self.mean) != shape[3] or len(self.std) != shape[3]:
            raise InputError(
                f"`mean` and `std` must hold one number for each of the {shape[3]} channels, "
                f"got {self.mean} and {self.std}."
            )
        if not all(math.isfinite(m) for m in self.mean) or not all(
            math.isfinite(s) and s > 0 for s in self.std
        ):
            raise InputError(f"`mean` must be finite and `std` positive, got {self.mean} and {self.std}.")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        n, height, width, channels = self.images.shape
        kind = "gray" if channels == 1 else "RGB"
        return f"Split({n:,} {kind} images, {height} x {width}, {self.num_classes} classes)"

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for gray."""
        return int(self.images.shape[3])

    @property
    def num_classes(self) -> int:
        """How many classes the data set has, whether or not each occurs here."""
        return len(self.classes)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels, as networks see the images."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    def to(self, device: torch.device) -> "Split":
        """With all tensors on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("images", "labels", "ids")}
        return replace(self, **moved)

    def subset(self, indices: Int64[Tensor, " m"]) -> "Split":
        """The images at these positions, in this order, with the same constants."""
        stored = self.images
        images = stored.subset(indices) if isinstance(stored, StoredImages) else stored[indices]
        return replace(self, images=images, labels=self.labels[indices], ids=self.ids[indices])

    def source(self, indices: Int64[Tensor, " m"]) -> tuple[UInt8[Tensor, "k h w c"], Int64[Tensor, " m"]]:
        """The images as they are stored (perhaps larger, and more than here), and the positions in them."""
        if isinstance(self.images, StoredImages):
            return self.images.source, self.images.positions(indices)
        return self.images, indices

    def tensors(self) -> list[Tensor]:
        """The large tensors, which processes on one machine may share."""
        images = self.images.tensors() if isinstance(self.images, StoredImages) else [self.images]
        return [*images, self.labels, self.ids]

    def counts(self) -> list[int]:
        """How many images each class has."""
        return [int(count) for count in torch.bincount(self.labels, minlength=self.num_classes)]


def image_parts(images: UInt8[Tensor, "n h w c"] | StoredImages) -> Iterator[UInt8[Tensor, "_ h w c"]]:
    """All images, some at a time; of stored ones what is stored."""
    if isinstance(images, StoredImages) and images.rows is None:
        images = images.source
    step = max(1, _CHUNK // math.prod(images.shape[1:]))
    for start in range(0, len(images), step):
        if isinstance(images, StoredImages) and images.rows is not None:
            yield images.source[images.rows[start : start + step]]
        else:
            yield images[start : start + step]


def channel_statistics(images: UInt8[Tensor, "n h w c"] | StoredImages) -> tuple[Channels, Channels]:
    """Mean and (population) standard deviation of each channel, of pixels scaled to 0..1.

    Counts of the 256 values make the sums exact integers, so neither the order of the images nor the number
    of threads matters. A channel with one value only gets 1 as standard deviation: it is 0 after
    normalization in any case.
    """
    channels = int(images.shape[3])
    table = torch.zeros(channels, 256, dtype=torch.int64)
    for part in image_parts(images):
        for channel in range(channels):
            table[channel] += torch.bincount(part[..., channel].reshape(-1), minlength=256)
    mean, std = [], []
    for row in table.tolist():
        n = sum(row)
        first = sum(value * count for value, count in enumerate(row))
        second = sum(value * value * count for value, count in enumerate(row))
        mean.append(first / (255 * n))
        std.append(math.sqrt(n * second - first * first) / (255 * n) or 1.0)
    return tuple(mean), tuple(std)
