"""Map-style datasets (items are an image and a label), decoded once into memory or a mapped file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rolewise.data.arrays import check_range, class_names, uint8_images
from rolewise.data.data import Data
from rolewise.data.decoding import progress_bar
from rolewise.data.split import Split
from rolewise.data.store import LARGE, Collected, Item, Store, collect
from rolewise.errors import InputError, InputTypeError, check_integer, check_path


@dataclass(frozen=True)
class Form:
    """What becomes of the items of a dataset; see `Data.from_dataset`."""

    size: int | None
    channels: int | None
    store: Any
    progress: bool


def data_from_dataset(train: Any, test: Any, classes: Sequence[str] | None, *, name: str, form: Form) -> Data:
    """See `Data.from_dataset`."""
    if form.size is not None:
        check_integer("size", form.size, 1, 1024)
    if form.channels not in (None, 1, 3):
        raise InputError(
            f"`channels` must be 3 (RGB), 1 (gray) or None (as they come), got {form.channels!r}."
        )
    for part, dataset in (("train", train), ("test", test)):
        _check(dataset, part)
    if classes is None and isinstance(getattr(train, "classes", None), Sequence):
        classes = [str(one) for one in train.classes]
    shape = _first(train, "train", form).shape
    if (other := _first(test, "test", form).shape) != shape:
        raise InputError(
            f"`test` must have images of the form of `train`, {_text(shape)}, got {_text(other)}.{_SCALE}"
        )
    _check_repeatable(train, form)
    found = _collect(train, "train", shape, form)
    labels = torch.tensor(found.labels)
    names = class_names(classes, labels)
    mean, std = found.constants

    def read_test() -> Split:
        tested = _collect(test, "test", shape, form)
        of_test = torch.tensor(tested.labels)
        check_range(of_test, names, "test labels")
        return Split(tested.images, of_test, torch.arange(len(of_test)), names, mean, std)

    split = Split(found.images, labels, torch.arange(len(labels)), names, mean, std)
    return Data(name, split, read_test, source=f"{type(train).__name__}, {len(labels):,} training images")


_SCALE = " Give `size` to bring all images to one."


def _text(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]} with {shape[2]} channel{'s' if shape[2] > 1 else ''}"


def _check(dataset: Any, part: str) -> None:
    kind = type(dataset).__name__
    if isinstance(dataset, torch.utils.data.DataLoader):
        raise InputTypeError(
            f"`{part}` must be a Dataset, got a {kind}: give its `.dataset`; batches are made here."
        )
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")) or isinstance(
        dataset, str | dict
    ):
        raise InputTypeError(
            f"`{part}` must be a map-style Dataset, with a length and items (image, label), got {kind}. "
            "One that only iterates: list(dataset)."
        )
    if len(dataset) == 0:
        raise InputError(f"`{part}` has no items.")


def _item(dataset: Any, index: int, part: str, form: Form) -> Item:
    """One item as a uint8 image (h, w, c) and a label."""
    item = dataset[index]
    where = f"item {index} of `{part}`"
    if not isinstance(item, tuple | list) or len(item) < 2:
        came = f"{type(item).__name__}" + (f" with {sorted(item)}" if isinstance(item, dict) else "")
        raise InputTypeError(
            f"{where} must be (image, label), got {came}: wrap the dataset in one that gives those."
        )
    image, label = item[0], item[1]
    if isinstance(label, Tensor | np.generic | np.ndarray) and np.prod(label.shape) == 1:
        label = label.item()
    if isinstance(label, bool) or not hasattr(label, "__index__") or label.__index__() < 0:
        raise InputTypeError(f"the label of {where} must be an integer of at least 0, got {item[1]!r:.60}.")
    return _pixels(image, where, form), int(label)


def _pixels(image: Any, where: str, form: Form) -> np.ndarray:
    from PIL import Image

    if isinstance(image, np.ndarray | Tensor):
        array = uint8_images(image[None], where.replace("`", ""))[0].numpy()
        if form.size is None and form.channels in (None, array.shape[2]):
            return array
        image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    elif not isinstance(image, Image.Image):
        raise InputTypeError(
            f"the image of {where} must be a PIL image, an array or a tensor, got {type(image).__name__}."
        )
    from rolewise.data.image_file import fit, to_rgb

    channels = form.channels or (1 if image.mode in ("1", "L", "LA", "I", "F", "I;16", "I;16B") else 3)
    if form.size is not None:
        return fit(image, form.size, channels=channels)
    upright = to_rgb(image)
    return np.array(upright) if channels == 3 else np.array(upright.convert("L"))[:, :, None]


def _first(dataset: Any, part: str, form: Form) -> np.ndarray:
    return _item(dataset, 0, part, form)[0]


def _check_repeatable(dataset: Any, form: Form) -> None:
    """A dataset that augments would be decoded once, and its one random choice kept for the whole training."""
    for index in range(min(8, len(dataset))):
        first, second = (_item(dataset, index, "train", form)[0] for _ in range(2))
        if first.shape != second.shape or not np.array_equal(first, second):
            raise InputError(
                f"item {index} of `train` differs when it is read twice: the dataset augments at random. Give it "
                "without random transforms; a schedule, crop and flip are applied to the decoded images."
            )


def _collect(dataset: Any, part: str, shape: tuple[int, ...], form: Form) -> Collected:
    n = len(dataset)

    def items() -> Iterator[Item]:
        with progress_bar(f"decoding {part}", n, shown=form.progress) as advance:
            for index in range(n):
                image, label = _item(dataset, index, part, form)
                if image.shape != shape:
                    raise InputError(
                        f"item {index} of `{part}` is {_text(image.shape)}, item 0 is {_text(shape)}.{_SCALE}"
                    )
                advance()
                yield image, label

    store = None
    if form.store is not None:
        key = [type(dataset).__qualname__, n, form.size, form.channels, list(shape)]
        store = Store(check_path("store", form.store), part, key)
    elif n * int(np.prod(shape)) >= LARGE:
        raise InputError(
            f"`{part}` decodes to {n * int(np.prod(shape)) / 2**30:.1f} GiB: name a folder with `store` where the "
            "images are kept in a mapped file, made once."
        )
    h, w, c = shape
    return collect(items(), n, (h, w, c), (h, w), skipped=[], store=store)
