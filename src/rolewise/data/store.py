"""Decoded images in memory, or, where they are many, in a file that is mapped: made once, verified by its digest."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from rolewise.data.images import MappedFile, StoredImages
from rolewise.data.split import Channels, channel_statistics
from rolewise.errors import InputError, check_path

FORMAT, FORMAT_VERSION = "rolewise.images", 1
LARGE = 2 * 2**30  # bytes of decoded images above which a store is used unless the user says otherwise

Item = tuple[np.ndarray, int]  # uint8 (h, w, c), and its label


@dataclass(frozen=True)
class Collected:
    """Decoded images with their labels.

    Args:
        images: a tensor `(n, h, w, c)`, or `StoredImages` where they are mapped or larger than networks see them.
        labels: one per image.
        constants: mean and standard deviation per channel.
        skipped: items that were left out, with the reasons.
    """

    images: Tensor | StoredImages
    labels: list[int]
    constants: tuple[Channels, Channels]
    skipped: list[str]


@dataclass(frozen=True)
class Store:
    """A file of images and its description, `NAME.uint8` and `NAME.json` in a folder.

    Args:
        folder: folder of both files; made if need be.
        name: without suffix.
        key: JSON on which the images depend (files, sizes, ...); a store with another key is made again.
    """

    folder: Path
    name: str
    key: Any

    @property
    def path(self) -> Path:
        """The images' file."""
        return self.folder / f"{self.name}.uint8"

    @property
    def description(self) -> Path:
        """The JSON beside it."""
        return self.folder / f"{self.name}.json"

    def read(self) -> dict[str, Any] | None:
        """The description of a store that is there, is of this key and whole; None if there is none of this key.

        Raises:
            InputError: the images' file is damaged.
        """
        try:
            stated = json.loads(self.description.read_text("utf-8"))
            known = stated["format"] == FORMAT and stated["format_version"] == FORMAT_VERSION
            if not known or stated["key"] != _digest(self.key):
                return None
            shape = tuple(int(side) for side in stated["shape"])
            whole = len(shape) == 4 and len(stated["labels"]) == shape[0]
            whole = whole and {"sha256", "mean", "std", "skipped"} <= stated.keys()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not whole or not self.path.is_file():
            return None
        if (got := _file_digest(self.path)) != stated["sha256"]:
            raise InputError(
                f"{self.path}: is damaged (its SHA-256 is {got}, not {stated['sha256']}). Delete it and "
                f"{self.description.name}; both are made again from the images."
            )
        return dict(stated)

    def write(self, items: Iterator[Item], skipped: list[str]) -> None:
        """Writes all images, then the description; what is interrupted leaves neither.

        A process that is killed leaves a hidden file, which the next call removes.
        """
        for left in self.folder.glob(f".{self.name}.*"):
            left.unlink(missing_ok=True)
        labels: list[int] = []
        digest, shape = hashlib.sha256(), (0, 0, 0)
        with _whole(self.path) as file:
            for image, label in items:
                data = np.ascontiguousarray(image)
                file.write(data.data)
                digest.update(data.data)
                labels.append(label)
                shape = data.shape
        mapped = MappedFile(self.path, (len(labels), *shape))
        mean, std = channel_statistics(mapped.tensor())
        stated = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "key": _digest(self.key),
            "shape": list(mapped.shape),
            "sha256": digest.hexdigest(),
            "mean": mean,
            "std": std,
            "skipped": skipped,
            "labels": labels,
        }
        with _whole(self.description) as file:
            file.write(json.dumps(stated).encode())


def collect(
    items: Iterator[Item],
    most: int,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    *,
    skipped: list[str],
    store: Store | None = None,
) -> Collected:
    """Decodes all items, into memory or into a store; a store that is there already is used, and nothing decoded.

    Args:
        items: images of `shape` with their labels, at most `most`; exhausted here.
        most: upper bound of their number.
        shape: (height, width, channels) as stored.
        size: (height, width) as networks see them.
        skipped: list of what the iterator leaves out; complete once it is exhausted.
        store: None is memory.
    Raises:
        InputError: no memory, or a store that cannot be written.
    """
    if store is not None:
        return _collect_stored(items, size, skipped, store)
    try:
        array = np.empty((most, *shape), np.uint8)
    except MemoryError:
        raise InputError(
            f"{most:,} images of {shape[0]} x {shape[1]} need {math.prod((most, *shape)):,} bytes of memory: choose a "
            'smaller `size`, or keep them in a file with store="always".'
        ) from None
    labels: list[int] = []
    for image, label in items:
        array[len(labels)] = image
        labels.append(label)
    images: Tensor | StoredImages = torch.from_numpy(array[: len(labels)])
    constants = channel_statistics(images) if labels else ((), ())
    if size != shape[:2]:
        images = StoredImages(torch.from_numpy(array[: len(labels)]), size)
    return Collected(images, labels, constants, skipped)


def _collect_stored(
    items: Iterator[Item], size: tuple[int, int], skipped: list[str], store: Store
) -> Collected:
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(store.folder / f"{store.name}.lock"):
            stated = store.read()
            if stated is None:
                first = next(items, None)
                if first is None:  # nothing to map
                    return Collected(torch.empty(0, *size, 3, dtype=torch.uint8), [], ((), ()), skipped)
                store.write(chain([first], items), skipped)
                stated = store.read()
    except OSError as error:
        raise InputError(
            f"{store.path} cannot be written ({error.strerror}): choose a folder with `store` (command line: "
            '--set data.store=DIR), or "never" to keep the images in memory.'
        ) from None
    if stated is None:
        raise InputError(f"{store.path} changed while it was made: another program writes there.")
    n, h, w, c = stated["shape"]
    file = MappedFile(store.path.resolve(), (n, h, w, c))
    constants = tuple(stated["mean"]), tuple(stated["std"])
    return Collected(
        StoredImages(file.tensor(), size, None, file), stated["labels"], constants, stated["skipped"]
    )


def choose_store(choice: str, folder: Path, name: str, key: Any) -> Store:
    """Where decoded images go that are not kept in memory.

    Args:
        choice: "auto" or "always", or a folder for the store.
        folder: the store's folder unless `choice` names one.
        name: name of the store.
        key: see `Store`; a part of its digest is in the name, so that several sizes lie side by side.
    """
    where = folder if choice in ("auto", "always") else check_path("store", choice)
    return Store(where, f"{name}-{_digest(key)[:12]}", key)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name only when it is whole and on the disk."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest(key: Any) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
