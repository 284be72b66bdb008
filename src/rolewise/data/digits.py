"""The handwritten digits that ship with the package: 1,797 real images, enlarged from 8x8 to 32x32 RGB.

Data: *Optical Recognition of Handwritten Digits*, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, license CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). The 1,797
images are that set's test part, from 13 writers, as scikit-learn redistributes it; changed here: stored as a
NumPy archive with a division into training and test images of our own, and enlarged when read.
"""

import functools
import io
from importlib import resources

import numpy as np
import torch
from jaxtyping import UInt8

from rolewise.data.data import Data
from rolewise.data.split import Channels, Split, channel_statistics

CLASSES = tuple(str(digit) for digit in range(10))
SCALE = 4  # 8x8 -> 32x32
SIZES = (1077, 360)  # images of a search: to train on, to score on (36 of each class)


def enlarge(images: UInt8[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n H W 3"]:
    """Counts 0..16 scaled to 0..255 and enlarged four times, bilinear with half-pixel centers, to gray RGB.

    Output pixel i lies at s = (i + 1/2) / 4 - 1/2 of the input, between floor(s) and floor(s) + 1, weighted
    by distance, edge pixels repeated beyond the border: Pillow's `resize` with BILINEAR, but for the
    rounding. The weights are eighths, so all is exact in integers and rounded once, half up, at the very end;
    Pillow rounds after each direction, and how it does has changed between its versions.
    """
    eighths = images.astype(np.int32)
    for axis in (1, 2):
        length = images.shape[axis]
        position = 2 * np.arange(length * SCALE) + 1 - SCALE  # s in eighths
        low, weight = position // 8, position % 8
        shape = [1, 1, 1]
        shape[axis] = -1
        weight = weight.reshape(shape).astype(np.int32)
        near = eighths.take(low.clip(0, length - 1), axis)
        far = eighths.take((low + 1).clip(0, length - 1), axis)
        eighths = near * (8 - weight) + far * weight
    # Two directions: 64 times the count, so 16 * 64 = 1,024 is white.
    gray = ((eighths * 255 + 512) // 1024).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def load_digits() -> Data:
    """The 1,437 training and 360 test images; see `docs/data.md` for the division."""
    train = _read("train")
    test = functools.partial(_read, "test", train.mean, train.std)
    return Data("digits", train, test, sizes=SIZES, source="part of the package")


def _read(part: str, mean: Channels | None = None, std: Channels | None = None) -> Split:
    raw = resources.files("rolewise.data").joinpath("digits.npz").read_bytes()
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        chosen = arrays[part]
        images = torch.from_numpy(enlarge(arrays["images"][chosen]))
        labels = torch.from_numpy(arrays["labels"][chosen].astype(np.int64))
    if mean is None or std is None:
        mean, std = channel_statistics(images)
    return Split(images, labels, torch.arange(len(labels)), CLASSES, mean, std)
