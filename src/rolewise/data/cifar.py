"""CIFAR-10 and CIFAR-100 as published: archive or unpacked files, binary or Python form, verified.

Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009; formats and MD5 sums as on
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from rolewise.data.archive import MAX_UNPACKED, read_members
from rolewise.data.cifar_files import CIFAR, Cifar, File, Form
from rolewise.data.data import Data
from rolewise.data.split import Split
from rolewise.data.unpickle import read_pickle
from rolewise.errors import InputError

PIXELS = 3 * 32 * 32
_MAX_ROW = 6400  # bytes of one image with its label and file name; 3,105 in the published Python form


@dataclass(frozen=True)
class Place:
    """Where a data set was found: a form of it, and the folder or archive that holds it."""

    form: Form
    path: Path

    @property
    def is_archive(self) -> bool:
        """Whether the files lie in one archive."""
        return self.path.name == self.form.archive


def load_cifar(name: str, root: Path) -> Data:
    """CIFAR-10 or CIFAR-100 (with its 100 fine labels).

    Args:
        name: "cifar10" or "cifar100".
        root: the folder that holds the archive, or the folder that the archive unpacks to.
    Raises:
        InputError: a file that is missing, that is not the published one, or that cannot be read.
    """
    spec = CIFAR[name]
    place = find(spec, root)
    train = _read(spec, place, place.form.train, root)
    test = functools.partial(_read, spec, place, (place.form.test,), root)
    source = f"{spec.title}, {place.form.kind} form, {place.path}"
    return Data(name, train, test, sizes=(4000, 36000), constants=spec.constants, source=source)


def load_cifar10(root: Path) -> Data:
    """CIFAR-10; see `load_cifar`."""
    return load_cifar("cifar10", root)


def load_cifar100(root: Path) -> Data:
    """CIFAR-100; see `load_cifar`."""
    return load_cifar("cifar100", root)


def find(spec: Cifar, root: Path) -> Place:
    """The first of: unpacked binary files, unpacked Python files, binary archive, Python archive.

    The binary form comes first since it is no pickle; unpacked files before archives since they read faster.
    """
    for form in spec.forms:
        for folder in (root / form.folder, root.resolve()):
            if folder.name == form.folder and folder.is_dir():
                missing = [file.name for file in form.files if not (folder / file.name).is_file()]
                if missing:
                    other = f"Put them there, or remove {folder} so that another form is used"
                    raise InputError(f"{folder}: lacks {', '.join(missing)}. {other}; {_fetch(spec, root)}")
                return Place(form, folder)
    for form in spec.forms:
        if (root / form.archive).is_file():
            return Place(form, root / form.archive)
    if not root.is_dir():
        raise InputError(
            f"`root` must be a folder that holds {spec.title}, but {root} is none; {_fetch(spec, root)}"
        )
    looked = ", ".join([form.folder for form in spec.forms] + [form.archive for form in spec.forms])
    raise InputError(f"{root}: holds none of {looked}; {_fetch(spec, root)}")


def _fetch(spec: Cifar, root: Path) -> str:
    return f'"rolewise data fetch {spec.name} --data-root {root}" gets {spec.title}.'


def _read(spec: Cifar, place: Place, files: tuple[File, ...], root: Path) -> Split:
    rows = sum(file.rows for file in files)
    images = np.empty((rows, 32, 32, 3), np.uint8)
    labels = np.empty(rows, np.int64)
    starts = dict(zip(files, np.cumsum([0, *(file.rows for file in files)]), strict=False))
    for file, raw, source in _contents(spec, place, files, root):
        batch = slice(int(starts[file]), int(starts[file]) + file.rows)
        decode = decode_python if place.form.kind == "python" else decode_binary
        pixels, labels[batch] = decode(raw, source, spec, file.rows)
        target = images[batch].reshape(-1, 32 * 32, 3)
        for channel in range(3):  # three times as fast as one transposed assignment
            target[:, :, channel] = pixels[:, channel * 1024 : (channel + 1) * 1024]
    mean, std = spec.constants[50000]
    return Split(
        torch.from_numpy(images), torch.from_numpy(labels), torch.arange(rows), spec.classes, mean, std
    )


def _contents(
    spec: Cifar, place: Place, files: tuple[File, ...], root: Path
) -> Iterator[tuple[File, bytes, str]]:
    """Yields (file, verified content, name for messages)."""
    if place.is_archive:
        _check_archive_size(place.path, _fetch(spec, root))
        # The published sum of the archive vouches for each file in it, and comes before anything is unpacked.
        verify(place.path, place.form.archive_md5, "md5", None, _fetch(spec, root))
        names = {f"{place.form.folder}/{file.name}": file for file in files}
        for name, raw in read_members(place.path, names):
            yield names[name], raw, f"{place.path}, {name}"
        return
    for file in files:
        path = place.path / file.name
        limit = file.rows * _MAX_ROW
        try:
            if path.stat().st_size > limit:
                raise InputError(f"{path}: has more than {limit:,} bytes; {_fetch(spec, root)}")
            raw = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
        verify(path, file.digest, place.form.digest_kind, raw, _fetch(spec, root))
        yield file, raw, str(path)


def _check_archive_size(path: Path, way_out: str) -> None:
    """A file larger than any such archive unpacks to is not worth the minutes that its digest takes."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    if size > MAX_UNPACKED:
        raise InputError(
            f"{path}: has {size:,} bytes, more than the {MAX_UNPACKED:,} of any published archive. Delete it; {way_out}"
        )


def verify(path: Path, digest: str, kind: str, raw: bytes | None, way_out: str) -> None:
    """Compares a file (or its content `raw`, if at hand) with its digest; `kind` is "md5" or "sha256"."""
    if raw is None:
        try:
            with path.open("rb") as stream:
                got = hashlib.file_digest(
                    stream, lambda: hashlib.new(kind, usedforsecurity=False)
                ).hexdigest()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    else:
        got = hashlib.new(kind, raw, usedforsecurity=False).hexdigest()
    if got != digest:
        raise InputError(
            f"{path}: is damaged or not the published file: its {kind.upper()} is {got}, not {digest}. "
            f"Delete it; {way_out}"
        )


Decoded = tuple[UInt8[np.ndarray, "n 3072"], Int64[np.ndarray, " n"]]


def decode_binary(raw: bytes, source: str, spec: Cifar, rows: int) -> Decoded:
    """Pixels (red, green, blue planes) and labels of the binary form: label bytes, then 3,072 pixels.

    CIFAR-100 has two label bytes, coarse and fine; the fine one is used.
    """
    width = spec.label_bytes + PIXELS
    if len(raw) != rows * width:
        raise InputError(f"{source}: must have {rows * width:,} bytes ({rows:,} images), has {len(raw):,}.")
    table = np.frombuffer(raw, np.uint8).reshape(rows, width)
    labels = table[:, spec.label_bytes - 1].astype(np.int64)
    return table[:, spec.label_bytes :], _checked(labels, source, spec)


def decode_python(raw: bytes, source: str, spec: Cifar, rows: int) -> Decoded:
    """Pixels and labels of the Python form: a pickled dictionary with `data` and the labels."""
    content = read_pickle(raw, source)
    if not isinstance(content, dict) or not {"data", spec.label_key} <= content.keys():
        raise InputError(f"{source}: must be a dictionary with `data` and `{spec.label_key}`.")
    pixels, labels = content["data"], content[spec.label_key]
    if not isinstance(pixels, np.ndarray) or pixels.shape != (rows, PIXELS):
        came = pixels.shape if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise InputError(f"{source}: `data` must be an array of shape ({rows}, {PIXELS}), got {came}.")
    if not isinstance(labels, list) or len(labels) != rows or any(type(label) is not int for label in labels):
        raise InputError(f"{source}: `{spec.label_key}` must be a list of {rows} integers.")
    return pixels, _checked(np.array(labels, dtype=np.int64), source, spec)


def _checked(labels: Int64[np.ndarray, " n"], source: str, spec: Cifar) -> Int64[np.ndarray, " n"]:
    highest = len(spec.classes) - 1
    if labels.min() < 0 or labels.max() > highest:
        raise InputError(f"{source}: labels must lie in 0..{highest}, got {labels.min()}..{labels.max()}.")
    return labels
