"""What the kernels read and write, as named tuples that Numba takes.

A change here does not reach machine code on disk: change `kernels.py` with it.
"""

from typing import NamedTuple

import numpy as np


class Program(NamedTuple):
    """What may happen to an image, resolved to numbers; row s of the arrays is slot s (an op with its strength).

    Fields:
        mode: the way ops are chosen (`kernels.WALK`, `CHOOSE`, `GIVEN`, `PAIRS`).
        amount: ops per image, with `CHOOSE` and `GIVEN`; the most, with `PAIRS`.
        chance: probability of each slot in tenths, with `WALK` and `PAIRS`.
        kernel: number of the kernel (`kernels.AFFINE`, ...).
        signed: 1 where the strength is negated for half of the images.
        numbers: `(slots, 2, 6)`, by sign (+, -): six affine coefficients, or [0] a mask, a threshold, a half side.
        factor: `(slots, 2)` float32, factor of blends, by sign.
        given: `(n, amount, 4)` with `GIVEN`: slot, sign (0 is +, 1 is -), x and y of Cutout's center.
    """

    mode: int
    amount: int
    chance: np.ndarray
    kernel: np.ndarray
    signed: np.ndarray
    numbers: np.ndarray
    factor: np.ndarray
    given: np.ndarray


class Head(NamedTuple):
    """Which part of a stored image becomes the image that the ops work on.

    Fields:
        mode: `kernels.AS_IS` (all of it), `WINDOW` (a part of this size) or `RESIZED` (a part of random area and
            ratio, scaled to this size).
        height, width: size of the result; not used with `AS_IS`.
        low, high: share of the stored image's area, with `RESIZED`.
        ratios: width by height, `kernels.RATIOS` float64 values in ascending order, with `RESIZED`.
    """

    mode: int
    height: int
    width: int
    low: float
    high: float
    ratios: np.ndarray


class Tail(NamedTuple):
    """What follows the ops in a training batch.

    Fields:
        crop: padding in pixels.
        flip: 1 for mirroring half of the images.
        cutout: side in pixels, 0 for none.
        table: `(channels, 256)` float32, the normalized value of each byte; 3 channels, or 1 for gray.
    """

    crop: int
    flip: int
    cutout: int
    table: np.ndarray


class Output(NamedTuple):
    """Where results go; empty ones are not filled, and exactly one of the first three is.

    Fields:
        pixels: bytes.
        single: float32 batch.
        half: bfloat16 batch, as the bits of uint16.
        interleaved: 1 for `(n, h, w, channels)` in memory, 0 for planes; all three are flat.
        channels: number of channels of `pixels`, 3, 4 or 1 (gray).
        exposed: bool `(n, h * w)`, where alpha is 0 at the end.
        trace: `(n, most ops, 4)`, which ops were applied, rows as of `Program.given`, -1 for none.
        fill: three bytes for exposed pixels; empty leaves what the ops left there.
    """

    pixels: np.ndarray
    single: np.ndarray
    half: np.ndarray
    interleaved: int
    channels: int
    exposed: np.ndarray
    trace: np.ndarray
    fill: np.ndarray
