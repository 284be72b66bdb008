"""Images as users have them (arrays, tensors, one or many, either layout) seen as what the kernel reads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rolewise.augment.ops import MAX_SIDE
from rolewise.errors import InputError, InputTypeError

Kind = type[np.ndarray] | type[Tensor]


@dataclass(frozen=True)
class ImageBatch:
    """A batch of uint8 images without copy where its memory allows.

    Args:
        flat: all bytes, `n * height * width * channels`.
        interleaved: True for pixels one after the other `(n, h, w, c)`, False for planes `(n, c, h, w)`.
        kind: type of the input.
        shape: shape of the input.
        nchw: True if that shape has the channels before height and width.
    """

    flat: np.ndarray
    interleaved: bool
    n: int
    height: int
    width: int
    channels: int
    kind: Kind
    shape: tuple[int, ...]
    nchw: bool

    def like(self, flat: np.ndarray) -> Any:
        """Bytes in this batch's memory order as an array or tensor of the shape and type that came."""
        n, h, w, c = self.n, self.height, self.width, self.channels
        array = flat.reshape((n, h, w, c) if self.interleaved else (n, c, h, w))
        if self.nchw and self.interleaved:  # a channels_last tensor
            array = array.transpose(0, 3, 1, 2)
        array = array.reshape(self.shape) if len(self.shape) == 4 else array[0]
        return torch.from_numpy(array) if self.kind is Tensor else array


def image_batch(images: object, *, name: str = "images", channels: int = 3) -> ImageBatch:
    """Checks images and finds their layout; a shape that fits both layouts is read as nhwc.

    Args:
        images: uint8, NumPy or torch (on the CPU), `(n, h, w, c)`, `(n, c, h, w)`, or one image without n.
        channels: 3, which takes gray images (1 channel) too, or 4 for `(n, h, w, 4)` alone.

    Raises:
        InputTypeError: neither array nor tensor, or not uint8.
        InputError: another shape, an image without pixels, or one of more than 8,192 pixels a side.
    """
    kind: Kind
    if isinstance(images, Tensor):
        if images.device.type != "cpu":
            raise InputError(
                f"`{name}` must lie in the CPU's memory, got a tensor on {images.device}: call .cpu()."
            )
        kind, dtype = Tensor, str(images.dtype).removeprefix("torch.")
    elif isinstance(images, np.ndarray):
        kind, dtype = np.ndarray, str(images.dtype)
    else:
        raise InputTypeError(f"`{name}` must be a uint8 array or tensor, got {type(images).__name__}.")
    if dtype != "uint8":
        raise InputTypeError(f"`{name}` must be uint8 (0 to 255), got {dtype}.")
    shape = tuple(images.shape)
    wanted = "(n, h, w, 4)" if channels == 4 else "(n, h, w, 3) or (n, 3, h, w), or one image without n"
    if channels == 3 and len(shape) in (3, 4) and 3 not in (shape[-1], shape[-3]):
        channels = 1 if 1 in (shape[-1], shape[-3]) else 3
    if len(shape) not in ((4,) if channels == 4 else (3, 4)) or channels not in (shape[-1], shape[-3]):
        raise InputError(f"`{name}` must have shape {wanted}, got {shape}.")
    nchw = shape[-1] != channels
    if nchw and channels == 4:
        raise InputError(f"`{name}` must have shape {wanted}, got {shape}.")
    height, width = shape[-2:] if nchw else shape[-3:-1]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InputError(f"`{name}` must be 1 to {MAX_SIDE} pixels high and wide, got {height} x {width}.")
    array: np.ndarray = images.detach().numpy() if isinstance(images, Tensor) else images
    array = array[None] if len(shape) == 3 else array
    interleaved = not nchw
    if nchw and not array.flags.c_contiguous and array.transpose(0, 2, 3, 1).flags.c_contiguous:
        interleaved, array = True, array.transpose(0, 2, 3, 1)
    flat = np.ascontiguousarray(array).reshape(-1)
    return ImageBatch(flat, interleaved, array.shape[0], height, width, channels, kind, shape, nchw)


def check_ids(ids: object, n: int, *, name: str = "ids") -> np.ndarray:
    """`ids` as n int64; None counts from 0, and a single integer is the id of a single image.

    Raises:
        InputTypeError: not integers.
        InputError: not one per image.
    """
    if ids is None:
        return np.arange(n, dtype=np.int64)
    array = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    if array.ndim == 0 and n == 1:
        array = array.reshape(1)
    if array.dtype == bool or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise InputTypeError(f"`{name}` must be integers, got {array.dtype}.")
    if array.shape != (n,):
        raise InputError(f"`{name}` must hold one integer per image, shape ({n},), got {array.shape}.")
    return np.require(array, np.int64, ["C", "A"])


def check_number(name: str, value: object) -> int:
    """A seed or an epoch: any integer, negative ones included, but no bool or float."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputTypeError(f"`{name}` must be an integer, got {value!r}.")
    return int(value.__index__())
