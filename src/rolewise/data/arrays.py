"""Own images and labels as they come (NumPy or torch, uint8 or float, gray or RGB, either layout) as splits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from rolewise.data.data import Data
from rolewise.data.split import Split, channel_statistics
from rolewise.errors import InputError, InputTypeError

_CHUNK = 2**22  # values of a float array that are converted at a time


def data_from_arrays(train: Any, test: Any, classes: Sequence[str] | None, *, name: str) -> Data:
    """See `Data.from_arrays`."""
    parts = []
    for part, given in (("train", train), ("test", test)):
        images, labels = _pair(part, given)
        pixels = uint8_images(images, f"{part} images")
        parts.append((pixels, integer_labels(labels, len(pixels), f"{part} labels")))
    (images, labels), (test_images, test_labels) = parts
    names = class_names(classes, labels)
    if tuple(test_images.shape[1:]) != tuple(images.shape[1:]):
        raise InputError(
            f"`test` must have images of the form of `train`, {_form(images)}, got {_form(test_images)}."
        )
    mean, std = channel_statistics(images)
    split = Split(images, labels, torch.arange(len(labels)), names, mean, std)
    check_range(test_labels, names, "test labels")
    test_split = Split(test_images, test_labels, torch.arange(len(test_labels)), names, mean, std)
    return Data(
        name, split, lambda: test_split, source=f"arrays of {len(split):,} and {len(test_split):,} images"
    )


def _form(images: Tensor) -> str:
    return " x ".join(str(side) for side in images.shape[1:])


def _pair(part: str, given: Any) -> tuple[Any, Any]:
    if isinstance(given, tuple | list) and len(given) == 2:
        return given[0], given[1]
    raise InputTypeError(
        f"`{part}` must be a pair (images, labels) of arrays or tensors, got {type(given).__name__}"
        f"{f' of {len(given)}' if isinstance(given, tuple | list) else ''}. For a Dataset: Data.from_dataset."
    )


def uint8_images(images: Any, name: str) -> UInt8[Tensor, "n h w c"]:
    """Images of any usual form as uint8 with the channels last; memory is shared where no value changes.

    Args:
        images: NumPy or torch, uint8 or floats within [0, 1] (rounded to the nearest of 255 steps, half up);
            `(n, h, w)`, `(n, h, w, c)` or `(n, c, h, w)` with 1 or 3 channels. What fits both is read as the former.
        name: name for messages.
    Raises:
        InputTypeError: no array, or another type of values.
        InputError: another shape, no images, or floats outside [0, 1].
    """
    if not isinstance(images, np.ndarray | Tensor):
        raise InputTypeError(f"`{name}` must be a NumPy array or a tensor, got {type(images).__name__}.")
    tensor = images.detach().cpu() if isinstance(images, Tensor) else _tensor(images, name)
    shape = tuple(tensor.shape)
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(3)
    elif tensor.ndim == 4 and tensor.shape[3] not in (1, 3) and tensor.shape[1] in (1, 3):
        tensor = tensor.permute(0, 2, 3, 1)
    if tensor.ndim != 4 or tensor.shape[3] not in (1, 3) or 0 in shape:
        raise InputError(
            f"`{name}` must be (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 (gray) or 3 (RGB) channels, none of "
            f"them 0, got {shape}."
        )
    if tensor.dtype == torch.uint8:
        return tensor.contiguous()
    if not tensor.dtype.is_floating_point:
        raise InputTypeError(
            f"`{name}` must be uint8 (0 to 255) or floats within [0, 1], got {tensor.dtype}: "
            "convert integers of 0 to 255 with .astype(np.uint8) or .to(torch.uint8)."
        )
    return _from_floats(tensor, name)


def _tensor(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.kind not in "uif" or array.dtype.itemsize > 8 or array.dtype in (np.uint32, np.uint64):
        raise InputTypeError(f"`{name}` must be uint8 (0 to 255) or floats within [0, 1], got {array.dtype}.")
    if array.dtype == np.uint16:
        raise InputTypeError(f"`{name}` must be uint8 or floats within [0, 1], got uint16: divide by 65535.")
    usable = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not usable.flags.writeable or any(stride < 0 for stride in usable.strides):
        usable = usable.copy()  # torch takes neither read-only arrays nor mirrored views
    return torch.from_numpy(usable)


def _from_floats(images: Tensor, name: str) -> UInt8[Tensor, "n h w c"]:
    result = torch.empty(images.shape, dtype=torch.uint8)
    step = max(1, _CHUNK // max(1, images[0].numel()))
    for start in range(0, len(images), step):
        values = images[start : start + step].double()
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # NaN fails both
            raise InputError(
                f"`{name}` holds floats, which must lie within [0, 1], got {low:.4g} to {high:.4g}. Values of "
                "0 to 255: convert them to uint8. Normalized ones: give the images as they were before."
            )
        result[start : start + step] = (values * 255 + 0.5).floor().to(torch.uint8)
    return result


def integer_labels(labels: Any, n: int, name: str) -> Int64[Tensor, " n"]:
    """Labels as n int64.

    Raises:
        InputTypeError: not integers.
        InputError: not one per image, or negative.
    """
    try:
        array = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    except ValueError:
        array = np.empty(0, object)
    if array.ndim == 2 and array.shape[0] == n and array.shape[1] > 1:
        raise InputError(
            f"`{name}` must be class numbers, got shape {array.shape}: one-hot rows? Use .argmax(1)."
        )
    if array.dtype.kind not in "ui":
        raise InputTypeError(
            f"`{name}` must be integers from 0 to the number of classes - 1, got {array.dtype}; names of classes go "
            "into `classes`."
        )
    if array.ndim == 2 and array.shape == (n, 1):
        array = array[:, 0]
    if array.shape != (n,):
        raise InputError(f"`{name}` must be one integer for each of the {n} images, got shape {array.shape}.")
    found = torch.from_numpy(array.astype(np.int64))
    if int(found.min()) < 0:
        raise InputError(f"`{name}` must be at least 0, got {int(found.min())}.")
    return found


def class_names(classes: Sequence[str] | None, labels: Int64[Tensor, " n"]) -> tuple[str, ...]:
    """The names by label; without `classes` the numbers up to the largest label.

    Raises:
        InputTypeError, InputError: no names, a name twice, fewer than two, or labels beyond them; no names and labels
            that begin above 0.
    """
    if classes is None:
        low = int(labels.min())
        if low > 0:
            raise InputError(
                f"`train labels` begin at {low}, and classes are counted from 0: subtract {low}, or name all classes "
                "with `classes`, those without images too."
            )
        classes = [str(number) for number in range(int(labels.max()) + 1)]
    if (
        isinstance(classes, str)
        or not isinstance(classes, Sequence)
        or any(not isinstance(c, str) for c in classes)
    ):
        raise InputTypeError(f"`classes` must be a list of names, by label, got {classes!r}.")
    names = tuple(classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"`classes` must be at least two different names, got {list(names)[:10]}.")
    check_range(labels, names, "train labels")
    return names


def check_range(labels: Int64[Tensor, " n"], classes: tuple[str, ...], name: str) -> None:
    """Checks that every label has a name."""
    high = int(labels.max())
    if high >= len(classes):
        raise InputError(f"`{name}` must lie in 0..{len(classes) - 1} (the classes), got {high}.")
