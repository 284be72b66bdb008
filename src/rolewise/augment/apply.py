"""One op with given magnitudes, on RGBA images: the function that the exactness tests check."""

from typing import Any

import numpy as np
from torch import Tensor

from rolewise.augment import kernels
from rolewise.augment.images import image_batch
from rolewise.augment.ops import LEVELS, OPS, make_program
from rolewise.augment.run_kernel import NO_KEYS, output, run_kernel
from rolewise.errors import InputError, InputTypeError, unknown


def apply_op(
    name: str, rgba: Any, magnitude: Any, *, sign: Any = None, center: Any = None, threads: int = 1
) -> Any:
    """One op on each image, equal to Pillow byte for byte.

    Args:
        name: a key of `OPS`.
        rgba: uint8 `(n, h, w, 4)`, NumPy or torch, any strides; not changed.
        magnitude: integers `(n,)`, 0 to 9 (one integer serves all images).
        sign: `(n,)`, +1 or -1, sign of the strength of signed ops; None is +1. Without effect on other ops.
        center: integers `(n, 2)` as (x, y), required by Cutout, ignored by other ops.
        threads: number of threads over which the images are spread; does not change a byte.

    Returns:
        A new array or tensor like `rgba`. Translation and Cutout stay in pixels at every image size.

    Raises:
        InputError: an unknown op, a wrong shape, a magnitude or sign out of range, a `center` missing or
            outside.
        InputTypeError: images that are not uint8; magnitudes, signs or centers that are not integers.
    """
    if name not in OPS:
        raise InputError(unknown("op", name, OPS))
    op = OPS[name]
    given = image_batch(rgba, name="rgba", channels=4)
    levels = _integers("magnitude", magnitude, (given.n,), 0, LEVELS - 1, name)
    rows = np.zeros((given.n, 1, 4), np.int64)
    rows[:, 0, 0] = levels
    if sign is not None:
        signs = _integers("sign", sign, (given.n,), -1, 1, name)
        if (signs == 0).any():
            raise InputError(f'`sign` must be +1 or -1, got 0 (op "{name}").')
        rows[:, 0, 1] = signs < 0
    if name == "Cutout":
        if center is None:
            raise InputError('`center` must be given for op "Cutout": integers (n, 2), each (x, y).')
        rows[:, 0, 2:] = _integers(
            "center", center, (given.n, 2), 0, max(given.height, given.width) - 1, name
        )
        if (rows[:, 0, 2] >= given.width).any() or (rows[:, 0, 3] >= given.height).any():
            raise InputError(
                f"`center` must lie within the image of {given.width} x {given.height} pixels (x, y)."
            )
    slots = [(op, op.strength(level)) for level in range(LEVELS)]
    program = make_program(slots, given.height, given.width, mode=kernels.GIVEN, amount=1, given=rows)
    pixels = np.empty_like(given.flat)
    ids = np.arange(given.n, dtype=np.int64)
    run_kernel(
        given, output(pixels=pixels, channels=4), ids=ids, keys=NO_KEYS, program=program, threads=threads
    )
    return given.like(pixels)


def _integers(what: str, values: Any, shape: tuple[int, ...], low: int, high: int, op: str) -> np.ndarray:
    """Integers of this shape within low..high; a single one fills it."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.dtype == bool or (not np.issubdtype(array.dtype, np.integer) and array.size > 0):
        raise InputTypeError(
            f'`{what}` must be integers from {low} to {high}, got {array.dtype} (op "{op}").'
        )
    if array.shape not in ((), shape):
        raise InputError(f'`{what}` must have shape {shape}, got {array.shape} (op "{op}").')
    wrong = array[(array < low) | (array > high)]
    if wrong.size:
        raise InputError(
            f'`{what}` must be an integer from {low} to {high}, got {int(wrong.flat[0])} (op "{op}").'
        )
    return np.broadcast_to(array, shape).astype(np.int64)
