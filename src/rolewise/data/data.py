"""A data set: its training images, its test images, and what a search gets of them."""

import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rolewise.data.split import Channels, Split, channel_statistics, image_parts
from rolewise.errors import InputError, InputTypeError, check_integer


class Data:
    """A data set: its training images, and its test images, which are read at first access.

    Args:
        name: name that a person typed.
        train: the whole training part.
        read_test: gives the test part; called once, at the first access to `test`.
        sizes: default numbers of images of `reduced`: (train, validation).
        constants: published (mean, std) by number of images of a reduced training part; others are computed.
        source: origin of the images, for people.
        skipped: files that could not be read and were left out, where the caller asked for that.

    Attributes:
        check_test: opens the test images without decoding one, so that a file that is no image is found before a run
            starts; None where there is nothing to open.
        held_out: training images that `train` leaves out, to choose an epoch by; None unless `limited` takes some.
    """

    check_test: Callable[[], None] | None = None
    held_out: Split | None = None

    def __init__(
        self,
        name: str,
        train: Split,
        read_test: Callable[[], Split],
        *,
        sizes: tuple[int, int] | None = None,
        constants: Mapping[int, tuple[Channels, Channels]] | None = None,
        source: str = "",
        skipped: list[str] | None = None,
    ) -> None:
        self.name = name
        self.classes = train.classes
        self.train = train
        self.source = source
        self.skipped = [] if skipped is None else skipped
        self._read_test = read_test
        self._whole = train  # what `reduced` divides, where `limited` leaves less to train on
        self._sizes = sizes or (max(1, len(train) // 10), max(1, len(train) // 2))
        self._constants = dict(constants or {})

    @classmethod
    def from_arrays(
        cls, train: Any, test: Any, classes: Sequence[str] | None = None, *, name: str = "arrays"
    ) -> "Data":
        """A data set of your own images in memory.

        Args:
            train: a pair (images, labels). Images: NumPy or torch, uint8 or floats within [0, 1], `(n, h, w)`,
                `(n, h, w, c)` or `(n, c, h, w)` with 1 channel (gray) or 3 (RGB); what fits both is read as the
                former. Labels: n integers from 0.
            test: likewise, of the same form; used once, after a training.
            classes: names by label; None takes the numbers up to the largest training label.
            name: name of the data set in results.

        Memory is shared with uint8 images whose channels come last. The images of a split have the form
        `(n, h, w, c)`; gray ones keep 1 channel, and so must the network's first layer.

        Raises:
            InputTypeError, InputError: another form; the message says what came and what to do.
        """
        from rolewise.data.arrays import data_from_arrays

        return data_from_arrays(train, test, classes, name=name)

    @classmethod
    def from_dataset(
        cls,
        train: Any,
        test: Any,
        classes: Sequence[str] | None = None,
        *,
        name: str = "dataset",
        size: int | None = None,
        channels: int | None = None,
        store: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> "Data":
        """A data set made of map-style data sets whose items are (image, label), each decoded once.

        Args:
            train: a length, and items (image, label); images are PIL images, arrays or tensors, as of `from_arrays`,
                before normalization and without random transforms.
            test: likewise; decoded at the first access to `test`, but for its first item.
            classes: names by label; None takes `train.classes`, else numbers.
            name: name of the data set in results.
            size: side to which the middle square of each image is scaled; None: all have one size already.
            channels: 3 or 1; None: gray stays gray.
            store: a folder for a mapped file of the decoded images, made once and verified when it is used again;
                None is memory. Of the datasets only the type and the length are compared: another content needs
                another folder.
            progress: True shows a progress bar on a terminal.

        Raises:
            InputTypeError, InputError: items of another form, of several sizes, or that differ when read twice.
        """
        from rolewise.data.dataset import Form, data_from_dataset

        return data_from_dataset(train, test, classes, name=name, form=Form(size, channels, store, progress))

    def __repr__(self) -> str:
        return f"Data({self.name!r}, train={self.train!r})"

    @functools.cached_property
    def test(self) -> Split:
        """The test part; its files are opened at the first access and not before."""
        return self._read_test()

    @property
    def search_sizes(self) -> tuple[int, int]:
        """How many images `reduced` takes by default, to train on and to score with."""
        return self._sizes

    def reduced(self, train: int | None = None, validation: int | None = None) -> tuple[Split, Split]:
        """Two disjoint splits of *training* images: one to train on in a search, one to score its members.

        The training images are shuffled once by NumPy's legacy `RandomState(0)`; the first `train` of them
        are the one split, the `validation` next the other, so every member of every search sees the same. The
        validation split carries the constants of the training split, since everything is normalized as the
        network was trained.

        Source: section 4.1 of the role-wise paper (4,000 and 36,000 images), the shuffle of the released
            code.

        Args:
            train: number of images, by default 4,000 for CIFAR, 1,077 for digits, 10 % elsewhere.
            validation: number of images, by default 36,000 for CIFAR, 360 for digits, 50 % elsewhere.
        Raises:
            InputError: less than one image, or more than there are.
        """
        total = len(self._whole)
        train = check_integer("train", self._sizes[0] if train is None else train, 1)
        validation = check_integer("validation", self._sizes[1] if validation is None else validation, 1)
        if train + validation > total:
            raise InputError(
                f"`train` + `validation` must be at most {total}, the training images of {self.name}, "
                f"got {train} + {validation}. Give smaller numbers; test images are not used for a search."
            )
        # `shuffle` of an arange, as the released code does it; NumPy has frozen the legacy generator's
        # streams.
        order = np.arange(total)
        np.random.RandomState(0).shuffle(order)
        indices = torch.from_numpy(order.astype(np.int64))
        split = self._whole.subset(indices[:train])
        mean, std = self._constants.get(train) or channel_statistics(split.images)
        split = replace(split, mean=mean, std=std)
        return split, replace(self._whole.subset(indices[train : train + validation]), mean=mean, std=std)

    def limited(
        self, train: int | None = None, test: int | None = None, held_out: int | None = None
    ) -> "Data":
        """The same data set with fewer images to train and to test on, and some to choose an epoch by.

        `reduced` divides all training images as before, so that the images that `limited(n)` trains on are those of
        `reduced(n)`, and the held-out ones are none of them.

        Args:
            train: number of training images, the first of the shuffle of `reduced`; None: all.
            test: number of test images, the first ones; None: all.
            held_out: number of training images for `Data.held_out`, the next of that shuffle; with `train` None, all
                others are trained on.
        Raises:
            InputError: less than one image, or more than there are.
        """
        split, held = self._whole, None
        if held_out is not None:
            check_integer("held_out", held_out, 1, len(split) - 1)
            split, held = self.reduced(len(split) - held_out if train is None else train, held_out)
        elif train is not None:
            check_integer("train", train, 1, len(split))
            split = self.reduced(train, 1)[0] if train < len(split) else split
        if test is not None:
            check_integer("test", test, 1)

        def read_test() -> Split:
            whole = self.test
            if test is not None and test > len(whole):
                raise InputError(
                    f"`test` must be at most {len(whole)}, the test images of {self.name}, got {test}."
                )
            return whole if test is None else whole.subset(torch.arange(test))

        limited = Data(
            self.name,
            split,
            read_test,
            sizes=self._sizes,
            constants=self._constants,
            source=self.source,
            skipped=self.skipped,
        )
        limited._whole, limited.held_out = self._whole, held
        limited.check_test = self.check_test
        return limited

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the training images' shape and bytes, then their labels (int64, little-endian)."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr(tuple(self.train.images.shape)).encode())
        for part in image_parts(self.train.images):
            digest.update(part.contiguous().numpy().data)
        digest.update(self.train.labels.numpy().astype("<i8").data)
        return digest.hexdigest()


def check_data(data: object) -> None:
    """Refuses what is no data set, with the way from what it is.

    Raises:
        InputTypeError: not a `Data`.
    """
    if isinstance(data, Data):
        return
    kind = type(data).__name__
    way = "Data.from_arrays(train=(images, labels), test=(images, labels))"
    if isinstance(data, torch.utils.data.DataLoader):
        way = "Data.from_dataset(loader.dataset, test_loader.dataset)"
    elif isinstance(data, str):
        way = f"rolewise.load_data({data!r})"
    elif (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, tuple | list | dict)
    ):
        way = "Data.from_dataset(dataset, test_dataset)"
    raise InputTypeError(
        f"`data` must be a rolewise Data, which holds training and test images, got {kind}: make one with {way}, "
        "from rolewise.data."
    )
