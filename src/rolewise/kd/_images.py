"""Batches of training images for `prepare`: what a loss trains on the teacher before the student is there."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from rolewise.kd.base import TrainingImages
from rolewise.kd.preparation import preparation
from rolewise.seeds import torch_generator


def normalized(
    pixels: UInt8[Tensor, "n h w c"], split: TrainingImages, device: torch.device
) -> Float[Tensor, "n c h w"]:
    """(x / 255 - mean) / std with the split's constants, in float32 on `device`."""
    mean = torch.tensor(split.mean, device=device).view(1, -1, 1, 1)
    std = torch.tensor(split.std, device=device).view(1, -1, 1, 1)
    return (pixels.to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std


def crop_and_flip(
    images: Float[Tensor, "n c h w"], generator: torch.Generator, *, margin: int = 4
) -> Float[Tensor, "n c h w"]:
    """Zero-pads by `margin` pixels, crops back at a random offset, mirrors half of the images.

    The padding follows the normalization, so that it has the mean color of the data set. All draws come from
    `generator` (on the CPU), so they are the same on every device.
    """
    n, _, height, width = images.shape
    top = torch.randint(2 * margin + 1, (n, 1), generator=generator)
    left = torch.randint(2 * margin + 1, (n, 1), generator=generator)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.arange(width)
    columns = left + torch.where(mirrored, columns.flip(0), columns)
    rows = top + torch.arange(height)
    padded = F.pad(images, (margin,) * 4).permute(0, 2, 3, 1)
    sample = torch.arange(n, device=images.device).view(n, 1, 1)
    rows, columns = rows.to(images.device).unsqueeze(2), columns.to(images.device).unsqueeze(1)
    return padded[sample, rows, columns].permute(0, 3, 1, 2).contiguous()


def training_batches(
    split: TrainingImages, *, batch: int, seed: int, stream: str, epoch: int, device: torch.device
) -> Iterator[Float[Tensor, "n c h w"]]:
    """One epoch of cropped and mirrored batches in random order; an incomplete last batch is left out.

    Args:
        split: the training images.
        batch: images a batch; a smaller split makes one batch.
        seed, stream, epoch: key of the order and of the augmentation.
        device: device of the batches.
    Raises:
        Interrupted: the observer of the preparation asked for a stop.
    """
    generator = torch_generator(seed, stream, epoch)
    order = torch.randperm(len(split.images), generator=generator)
    for indices in torch.split(order, batch):
        if len(indices) == batch or len(order) < batch:
            preparation().next_batch(len(indices))
            pixels = split.images[indices.to(split.images.device)]
            yield crop_and_flip(normalized(pixels, split, device), generator)
