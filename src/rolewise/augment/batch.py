"""Training batches: policy, crop, flip, cutout and normalisation in one pass over the images."""

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rolewise.augment.images import ImageBatch, check_ids, check_number, image_batch
from rolewise.augment.kernel_types import Output, Tail
from rolewise.augment.policy import BasePolicy, program_for
from rolewise.augment.rng import stream_keys
from rolewise.augment.run_kernel import NO_OPS, output, run_kernel
from rolewise.errors import InputError, InputTypeError, check_integer

_UNKEYED = np.zeros(2, np.uint64)


def _table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The 3 x 256 values (v / 255 - mean) / std, rounded once to float32."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not np.isfinite(np.asarray(values, np.float64)).all():
            raise InputError(f"`{name}` must be three finite numbers, got {tuple(values)}.")
    if min(std) <= 0:
        raise InputError(f"`std` must be above 0, got {tuple(std)}.")
    levels = np.arange(256, dtype=np.float64) / 255
    exact = (levels - np.array(mean, np.float64)[:, None]) / np.array(std, np.float64)[:, None]
    return exact.astype(np.float32)


def _result(
    images: ImageBatch, n: int, dtype: torch.dtype, channels_last: bool, out: Tensor | None
) -> Tensor:
    """The tensor that is written: `out` after checking it, or a new one."""
    if dtype not in (torch.float32, torch.bfloat16):
        raise InputTypeError(f"`dtype` must be torch.float32 or torch.bfloat16, got {dtype}.")
    shape = (n, 3, images.height, images.width)
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


class BatchAugmenter:
    """Makes training batches of uint8 images: policy, padding and crop, flip, cutout, normalisation.

    Exposed pixels (alpha 0 after the last op) and the crop's padding are 0 after normalisation, the data
    set's mean. The crop's offset is uniform over 0 .. 2 * crop in each axis. The ops are those of
    `policy.apply` with the same seed, epoch and ids.

    Args:
        mean, std: per channel, of values within 0..1; the normalised value is (v / 255 - mean) / std, rounded
            once.
        crop: padding on each side in pixels, 0 for no crop.
        flip: whether half of the images are mirrored left to right.
        cutout: side of a zero square in pixels, its centre uniform over the image, clipped; 0 for none.
        threads: over how many threads the images are spread; does not change a byte.
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
    ) -> None:
        crop, cutout = check_integer("crop", crop, 0, 4096), check_integer("cutout", cutout, 0, 8192)
        self.threads = check_integer("threads", threads, 1, 1024)
        self._tail = Tail(crop, int(flip), cutout, _table(mean, std))

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
    ) -> Float[Tensor, "n 3 h w"]:
        """One batch.

        Args:
            images: uint8 `(m, h, w, 3)` or `(m, 3, h, w)`.
            policy: of this epoch; None for none.
            seed, epoch, ids: the key of the random numbers; ids `(n,)`, the images' positions in the data
                set.
            index: `(n,)` positions in `images` of the batch's images; None takes all (n = m). Spares a
                gathered copy.
            out: a tensor to write, as would be returned; None makes one.
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
        result = _result(given, len(positions), dtype, channels_last, out)
        run_kernel(
            given,
            _written(result, channels_last),
            ids=check_ids(ids, len(positions)),
            keys=stream_keys(check_number("seed", seed), check_number("epoch", epoch)),
            index=positions,
            program=NO_OPS if policy is None else program_for(policy, given.height, given.width),
            tail=self._tail,
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
) -> Float[Tensor, "n 3 h w"]:
    """Images for evaluation: (v / 255 - mean) / std, to the byte as `BatchAugmenter` writes an untouched
    image.

    Args: as of `BatchAugmenter`.
    """
    given = image_batch(images)
    result = _result(given, given.n, dtype, channels_last, out)
    tail = Tail(0, 0, 0, _table(mean, std))
    ids = np.arange(given.n, dtype=np.int64)
    run_kernel(given, _written(result, channels_last), ids=ids, keys=_UNKEYED, tail=tail, threads=threads)
    return result
