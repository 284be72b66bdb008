"""Your own images: `root/{train,test}/<class>/*`, brought to one size and to RGB."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rolewise.data.data import Data
from rolewise.data.decoding import progress_bar
from rolewise.data.image_file import BadFile, open_image, read_image
from rolewise.data.split import Channels, Split
from rolewise.data.store import LARGE, Item, choose_store, collect
from rolewise.errors import InputError, check_integer

MAX_SIZE = 1024
_SHOWN = 5  # files that an error names


def load_folder(
    root: Path,
    *,
    size: int = 32,
    resize: int | None = None,
    channels: int = 3,
    skip_bad: bool = False,
    store: str = "auto",
) -> Data:
    """The data set `root/train/<class>/*`, `root/test/<class>/*`.

    Classes are the sorted names of the class folders, images come in the order of (class, file name); names that
    begin with a dot are ignored. Of each image the middle square is scaled to `resize` (bilinear, antialiased), and
    networks see the central part of `size`; training takes its parts of the whole square.
    Test images are read at first access, but that both parts have the same classes is checked at once.

    Args:
        root: the folder that holds `train` and `test`.
        size: side in pixels, 1 to 1,024.
        resize: side to which images are scaled before the central part is taken; None is `size`, all of the square.
        channels: 3 for RGB, 1 for gray.
        skip_bad: leave out files that are no readable image (with a warning; `Data.skipped` lists them).
        store: place of the decoded images: "auto" (in memory, above 2 GiB in a mapped file in `root/.rolewise`),
            "always", "never", or a folder for the file.
    Raises:
        InputError: a missing or empty class, classes that differ, files that are no images.
    """
    size = check_integer("size", size, 1, MAX_SIZE)
    stored = size if resize is None else check_integer("resize", resize, 1, 2 * MAX_SIZE)
    if stored < size:
        raise InputError(f"`resize` must be at least `size`, {size}, got {resize}.")
    if channels not in (1, 3):
        raise InputError(f"`channels` must be 3 (RGB) or 1 (gray), got {channels!r}.")
    for part in ("train", "test"):
        if not (root / part).is_dir():
            shape = "train/<class>/* and test/<class>/*"
            raise InputError(f"`root` must be a folder with {shape}; there is no folder {root / part}.")
    classes, test_classes = _classes(root / "train"), _classes(root / "test")
    if classes != test_classes:
        only = [f"{name} (train alone)" for name in classes if name not in test_classes]
        only += [f"{name} (test alone)" for name in test_classes if name not in classes]
        counts = f"train has {len(classes)} classes and test {len(test_classes)}"
        raise InputError(f"{root}: {counts}, which must be the same; they differ in {_some(only)}.")
    skipped: list[str] = []
    form = _Form(size, stored, channels, skip_bad, store)
    train = _read(root / "train", classes, form, skipped)
    test = functools.partial(_read, root / "test", classes, form, skipped, constants=(train.mean, train.std))
    data = Data("folder", train, test, source=f"images in {root}", skipped=skipped)
    if not skip_bad:
        data.check_test = functools.partial(_check_headers, root / "test", classes)
    return data


@dataclass(frozen=True)
class _Form:
    """What becomes of the images of a folder; see `load_folder`."""

    size: int
    resize: int
    channels: int
    skip_bad: bool
    store: str


def _classes(part: Path) -> tuple[str, ...]:
    names = [entry.name for entry in _visible(part) if entry.is_dir()]
    if len(names) < 2:
        raise InputError(f"{part}: must hold at least two folders, one for each class, holds {len(names)}.")
    return tuple(names)


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}.") from None


def left_out(files: int) -> str:
    """Such as "3 files are left out"."""
    return f"{files} file{' is' if files == 1 else 's are'} left out"


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _read(
    part: Path,
    classes: tuple[str, ...],
    form: _Form,
    skipped: list[str],
    *,
    constants: tuple[Channels, Channels] | None = None,
) -> Split:
    """One part; what is left out is appended to `skipped`. Training images are kept whole, test images as seen."""
    beside = [
        f"{entry.name} (lies beside the class folders)" for entry in _visible(part) if not entry.is_dir()
    ]
    files = [(label, entry) for label, name in enumerate(classes) for entry in _visible(part / name)]
    side = form.resize if constants is None else form.size
    bad: list[str] = []
    items = _decoded(part, files, beside, form, side, bad)
    size = len(files) * side * side * form.channels
    store = None
    if form.store != "never" and (form.store != "auto" or size >= LARGE):
        key = [_listing(part, files), beside, classes, form.size, form.resize, form.channels, form.skip_bad]
        store = choose_store(form.store, part.parent / ".rolewise", part.name, key)
    found = collect(
        items, len(files), (side, side, form.channels), (form.size, form.size), skipped=bad, store=store
    )
    if found.skipped:
        skipped += [f"{part.name}/{item}" for item in found.skipped]
        warnings.warn(f"{part}: {left_out(len(found.skipped))}: {_some(found.skipped)}.", stacklevel=2)
    if empty := [name for label, name in enumerate(classes) if label not in set(found.labels)]:
        raise InputError(
            f"{part}: no images in class {_some(empty)}. Add some, or remove the folder (in test too)."
        )
    mean, std = constants or found.constants
    labels = torch.tensor(found.labels)
    return Split(found.images, labels, torch.arange(len(labels)), classes, mean, std)


def _listing(part: Path, files: Sequence[tuple[int, Path]]) -> list[list[Any]]:
    """Names, sizes and times of the files, to detect changes since a store was made of them."""
    listed = []
    for label, entry in files:
        try:
            status = entry.stat()
            listed.append([str(entry.relative_to(part)), label, status.st_size, status.st_mtime_ns])
        except OSError:
            listed.append([str(entry.relative_to(part)), label, None, None])
    return listed


def _decoded(
    part: Path,
    files: Sequence[tuple[int, Path]],
    beside: Sequence[str],
    form: _Form,
    side: int,
    bad: list[str],
) -> Iterator[Item]:
    """Images with their labels; what cannot be used is listed in `bad`, at the end an error without `skip_bad`."""
    bad += beside
    with progress_bar(f"reading {part}", len(files)) as advance:
        for label, entry in files:
            advance()
            try:
                image = read_image(entry, form.resize, channels=form.channels)
            except BadFile as error:
                bad.append(f"{entry.relative_to(part)} ({error})")
                continue
            edge = (form.resize - side) // 2
            yield image[edge : edge + side, edge : edge + side], label
    if bad and not form.skip_bad:
        raise _unusable(part, bad, len(files) + len(beside))


def _check_headers(part: Path, classes: tuple[str, ...]) -> None:
    """Opens images that are decoded at the end of a run, so that a file that is none is found before work starts.

    Raises:
        InputError: files that cannot be used.
    """
    entries = [entry for name in classes for entry in _visible(part / name)]
    bad = []
    for entry in entries:
        try:
            open_image(entry, lambda image: None)
        except BadFile as error:
            bad.append(f"{entry.relative_to(part)} ({error})")
    if bad:
        raise _unusable(part, bad, len(entries))


def _unusable(part: Path, bad: Sequence[str], count: int) -> InputError:
    return InputError(
        f"{part}: {len(bad)} of {count} files cannot be used: {_some(bad)}. Mend or remove them, or leave them out "
        "with `skip_bad=True` (command line: --set data.skip_bad=true, or --skip-bad of `data check`)."
    )
