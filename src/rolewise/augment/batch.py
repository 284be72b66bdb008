"""Training batches: policy, crop, flip, cutout and normalization in one pass over the images."""

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rolewise.augment import kernels
from rolewise.augment.images import ImageBatch, check_ids, check_number, image_batch
from rolewise.augment.kernel_types import Head, Output, Tail
from rolewise.augment.ops import MAX_SIDE
from rolewise.augment.policy import BasePolicy, program_for
from rolewise.augment.rng import stream_keys
from rolewise.augment.run_kernel import NO_HEAD, NO_KEYS, NO_OPS, output, run_kernel
from rolewise.errors import InputError, InputTypeError, check_integer

# Log-spaced from 3/4 to 4/3.
_RATIOS = np.array([0.75 * (16 / 9) ** (k / (kernels.RATIOS - 1)) for k in range(kernels.RATIOS)])


def _table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The values (v / 255 - mean) / std of each channel and byte, rounded once to float32."""
    for name, values in (("mean", mean), ("std", std)):
        if (
            len(values) != len(mean)
            or len(values) not in (1, 3)
            or not np.isfinite(np.asarray(values, np.float64)).all()
        ):
            raise InputError(f"`{name}` must be three finite numbers (one for gray), got {tuple(values)}.")
    if min(std) <= 0:
        raise InputError(f"`std` must be above 0, got {tuple(std)}.")
    levels = np.arange(256, dtype=np.float64) / 255
    exact = (levels - np.array(mean, np.float64)[:, None]) / np.array(std, np.float64)[:, None]
    return exact.astype(np.float32)


def _result(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool, out: Tensor | None) -> Tensor:
    """The tensor that is written: `out` after checking it, or a new one."""
    if dtype not in (torch.float32, torch.bfloat16):
        raise InputTypeError(f"`dtype` must be torch.float32 or torch.bfloat16, got {dtype}.")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if out is None:
        return torch.empty(shape, dtype=dtype, memory_format=layout)
    if tuple(out.shape) != shape or out.dtype != dtype or not out.is_contiguous(memory_format=layout):
        form = "channels_last" if channels_last else "contiguous"
        raise InputError(
            f"`out` must be a {form} {dtype} tensor of shape {shape}, got {out.dtype} {tuple(out.shape)}."
        )
    if out.device.type != "cpu":
        raise InputError(f"`out` must lie in the memory of the CPU, got {out.device}.")
    return out


def _written(result: Tensor, channels_last: bool) -> Output:
    """The result's memory as the kernel's output."""
    memory = (result.permute(0, 2, 3, 1) if channels_last else result).detach().reshape(-1)
    if result.dtype == torch.float32:
        return output(single=memory.numpy(), interleaved=channels_last)
    return output(half=memory.view(torch.uint16).numpy(), interleaved=channels_last)


def _check_channels(images: ImageBatch, tail: Tail) -> None:
    if images.channels != len(tail.table):
        raise InputError(
            f"`images` have {images.channels} channels, but `mean` and `std` are of {len(tail.table)}: "
            "gray images need one number each, RGB three."
        )


def check_shares(shares: Sequence[float]) -> tuple[float, float]:
    """(low, high) of a random resized crop.

    Raises:
        InputTypeError: not two numbers.
        InputError: not 0 < low <= high <= 1.
    """
    if len(shares) != 2 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in shares):
        raise InputTypeError(f"`random_resized_crop` must be two numbers such as (0.08, 1), got {shares!r}.")
    low, high = float(shares[0]), float(shares[1])
    if not 0 < low <= high <= 1:
        raise InputError(
            f"`random_resized_crop` must be shares of the area, 0 < low <= high <= 1, got {tuple(shares)}."
        )
    return low, high


class BatchAugmenter:
    """Makes training batches of uint8 images: policy, padding and crop, flip, cutout, normalization.

    Exposed pixels (alpha 0 after the last op) and the crop's padding are 0 after normalization, the data
    set's mean. The crop's offset is uniform over 0 .. 2 * crop in each axis. The ops are those of
    `policy.apply` with the same seed, epoch and ids.

    Args:
        mean, std: mean and standard deviation per channel, of values within 0..1; the normalized value is (v / 255 -
            mean) / std, rounded once.
        crop: padding on each side in pixels, 0 for no crop.
        flip: True mirrors half of the images left to right.
        cutout: side of a zero square in pixels, its center uniform over the image, clipped; 0 for none.
        threads: number of threads over which the images are spread; does not change a byte.
        size: (height, width) of the result where the stored images are larger; None is their own size. A part of
            this size is then cut at a uniform place before the policy.
        resized: shares (low, high] of the stored image's area for a random resized crop; None is off. Before the
            policy a part of uniform area and log-uniform ratio, 3/4 to 4/3, is scaled to `size` (bilinear,
            antialiased, byte for byte as Pillow's `resize` of width and then height).

    Source of the random resized crop: Szegedy et al., "Going deeper with convolutions", CVPR 2015; bounds, ten tries
    and the central part after them as torchvision's RandomResizedCrop; the ratio is one of 1,024 values here.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        crop: int = 4,
        flip: bool = True,
        cutout: int = 0,
        threads: int = 1,
        size: tuple[int, int] | None = None,
        resized: tuple[float, float] | None = None,
    ) -> None:
        crop, cutout = check_integer("crop", crop, 0, 4096), check_integer("cutout", cutout, 0, 8192)
        self.threads = check_integer("threads", threads, 1, 1024)
        self._tail = Tail(crop, int(flip), cutout, _table(mean, std))
        self._size = (
            None if size is None else tuple(check_integer("size", side, 1, MAX_SIDE) for side in size)
        )
        self._resized = None if resized is None else check_shares(resized)

    def _head(self, images: ImageBatch) -> Head:
        """Which part of stored images of this form is used."""
        height, width = self._size or (images.height, images.width)
        if self._resized is not None:
            return Head(kernels.RESIZED, height, width, *self._resized, _RATIOS)
        if (height, width) == (images.height, images.width):
            return NO_HEAD
        if height > images.height or width > images.width:
            raise InputError(
                f"`size` must be at most that of the images, {images.height} x {images.width}, got {height} x {width}."
            )
        return Head(kernels.WINDOW, height, width, 0.0, 0.0, _RATIOS)

    def __call__(
        self,
        images: Any,
        *,
        policy: BasePolicy | None,
        seed: SupportsIndex,
        epoch: SupportsIndex,
        ids: Any,
        index: Int64[Tensor, " n"] | np.ndarray | None = None,
        out: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> Float[Tensor, "n c h w"]:
        """One batch.

        Args:
            images: uint8 `(m, h, w, 3)` or `(m, 3, h, w)`, 1 channel for gray.
            policy: policy of this epoch; None for none.
            seed, epoch, ids: the key of the random numbers; ids `(n,)`, the images' positions in the data
                set.
            index: `(n,)` positions in `images` of the batch's images; None takes all (n = m). Spares a
                gathered copy.
            out: tensor to write to, of the form that is returned; None makes one.
            dtype: float32 or bfloat16.
            channels_last: memory format of the result.

        Raises:
            InputTypeError, InputError: as of `Policy.apply`; positions outside `images`; another `out`.
        """
        given = image_batch(images)
        positions = np.arange(given.n) if index is None else check_ids(index, len(index), name="index")
        if positions.size and (positions.min() < 0 or positions.max() >= given.n):
            reach = f"{positions.min()}..{positions.max()}"
            raise InputError(f"`index` must lie within 0..{given.n - 1}, got {reach}.")
        head = self._head(given)
        h, w = (given.height, given.width) if head is NO_HEAD else (head.height, head.width)
        _check_channels(given, self._tail)
        result = _result((len(positions), given.channels, h, w), dtype, channels_last, out)
        run_kernel(
            given,
            _written(result, channels_last),
            ids=check_ids(ids, len(positions)),
            keys=stream_keys(check_number("seed", seed), check_number("epoch", epoch)),
            index=positions,
            program=NO_OPS if policy is None else program_for(policy, h, w),
            tail=self._tail,
            head=head,
            threads=self.threads,
        )
        return result


def normalize(
    images: Any,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    out: Tensor | None = None,
    threads: int = 1,
) -> Float[Tensor, "n c h w"]:
    """Images for evaluation: (v / 255 - mean) / std, to the byte as `BatchAugmenter` writes an untouched
    image.

    Args: as of `BatchAugmenter`.
    """
    given = image_batch(images)
    tail = Tail(0, 0, 0, _table(mean, std))
    _check_channels(given, tail)
    result = _result((given.n, given.channels, given.height, given.width), dtype, channels_last, out)
    ids = np.arange(given.n, dtype=np.int64)
    run_kernel(given, _written(result, channels_last), ids=ids, keys=NO_KEYS, tail=tail, threads=threads)
    return result


def normalization_table(mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "c 256"]:
    """What `normalize` makes of each value of each channel, for devices that look it up."""
    return torch.from_numpy(_table(mean, std))
