"""One's own images: `root/{train,test}/<class>/*`, brought to one size and to RGB."""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from rolewise.data.split import Channels, Data, Split, channel_statistics
from rolewise.errors import InputError, check_integer

MAX_SIZE = 1024
# Pillow would try some forty formats; one of them, EPS, starts a program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_SHOWN = 5  # files that an error names


def load_folder(root: Path, *, size: int = 32, skip_bad: bool = False) -> Data:
    """The data set `root/train/<class>/*`, `root/test/<class>/*`.

    Classes are the sorted names of the class folders, images come in the order of (class, file name); names that
    begin with a dot are ignored. Of each image the middle square is scaled to the size (bilinear, antialiased).
    Test images are read at first access, but that both parts have the same classes is checked at once.

    Args:
        root: the folder that holds `train` and `test`.
        size: side in pixels, 1 to 1,024.
        skip_bad: leave out files that are no readable image (with a warning; `Data.skipped` lists them).
    Raises:
        InputError: a missing or empty class, classes that differ, files that are no images.
    """
    size = check_integer("size", size, 1, MAX_SIZE)
    for part in ("train", "test"):
        if not (root / part).is_dir():
            shape = "train/<class>/* and test/<class>/*"
            raise InputError(f"`root` must be a folder with {shape}; {root / part} is none.")
    classes, test_classes = _classes(root / "train"), _classes(root / "test")
    if classes != test_classes:
        only = [f"{name} (train alone)" for name in classes if name not in test_classes]
        only += [f"{name} (test alone)" for name in test_classes if name not in classes]
        counts = f"train has {len(classes)} classes and test {len(test_classes)}"
        raise InputError(f"{root}: {counts}, which must be the same; they differ in {_some(only)}.")
    skipped: list[str] = []
    train = _read(root / "train", classes, size, skip_bad, skipped)
    test = functools.partial(
        _read, root / "test", classes, size, skip_bad, skipped, constants=(train.mean, train.std)
    )
    return Data("folder", train, test, source=f"images in {root}", skipped=skipped)


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


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _read(
    part: Path,
    classes: tuple[str, ...],
    size: int,
    skip_bad: bool,
    skipped: list[str],
    *,
    constants: tuple[Channels, Channels] | None = None,
) -> Split:
    """One part; what is left out is appended to `skipped`."""
    bad = [f"{entry.name} (lies beside the class folders)" for entry in _visible(part) if not entry.is_dir()]
    files = [(label, entry) for label, name in enumerate(classes) for entry in _visible(part / name)]
    total = len(files) + len(bad)
    try:
        images = np.empty((len(files), size, size, 3), np.uint8)
    except MemoryError:
        need = len(files) * size * size * 3
        raise InputError(
            f"{part}: {len(files)} images of `size` {size} need {need:,} bytes of memory."
        ) from None
    labels: list[int] = []
    with warnings.catch_warnings():
        # More pixels than Pillow deems safe (89 million) is a reason to refuse a file; its other warnings concern
        # metadata that are not used.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for label, entry in files:
            try:
                images[len(labels)] = read_image(entry, size)
                labels.append(label)
            except BadFile as error:
                bad.append(f"{entry.relative_to(part)} ({error})")
    if bad and not skip_bad:
        raise InputError(
            f"{part}: {len(bad)} of {total} files cannot be used: {_some(bad)}. "
            "Mend or remove them, or leave them out with `skip_bad=True` (command line: --skip-bad)."
        )
    if bad:
        skipped += [f"{part.name}/{item}" for item in bad]
        warnings.warn(f"{part}: {len(bad)} files are left out: {_some(bad)}.", stacklevel=2)
    if empty := [name for label, name in enumerate(classes) if label not in set(labels)]:
        raise InputError(
            f"{part}: no images in class {_some(empty)}. Add some, or remove the folder (in test too)."
        )
    kept = torch.from_numpy(images[: len(labels)])
    mean, std = constants or channel_statistics(kept)
    return Split(kept, torch.tensor(labels), torch.arange(len(labels)), classes, mean, std)


class BadFile(Exception):  # noqa: N818 - the words are what counts
    """Why a file is no image that can be used."""


def read_image(path: Path, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """One image of a known format (`FORMATS`) as RGB; turned as its EXIF data say; of an animation the first frame.

    Raises:
        BadFile: not a regular file, empty, no image, damaged, or of too many pixels.
    """
    try:
        if not path.is_file():
            raise BadFile("a folder" if path.is_dir() else "no regular file, or a link that leads nowhere")
        if path.stat().st_size == 0:
            raise BadFile("empty")
        with path.open("rb") as stream, Image.open(stream, formats=_formats()) as image:
            upright = to_rgb(ImageOps.exif_transpose(image))
        side = min(upright.size)
        left, top = (upright.width - side) // 2, (upright.height - side) // 2
        middle = upright.crop((left, top, left + side, top + side))
        return np.array(middle.resize((size, size), Image.Resampling.BILINEAR))
    except BadFile:
        raise
    except UnidentifiedImageError:
        raise BadFile("no image of a known format") from None
    except Exception as error:
        # Pillow's decoders raise whatever a broken file leads them to (OSError, SyntaxError, struct.error, ...).
        raise BadFile(f"{type(error).__name__}: {error}".split("\n")[0][:120]) from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB; deep greys are scaled to 8 bits, not clipped as Pillow's `convert` does.

    `I;16` spans 0..65535. `I` (32-bit integers) does so too if its values lie within, as those of 16-bit PGM files,
    else its own minimum to maximum. `F` spans 0..1 or 0..255 if its values lie within, else its minimum to maximum.
    Transparency is dropped, as `convert` does.
    """
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.float64) / 65535)
    if image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise BadFile("holds values that are not finite")
        for span in (65535.0,) if image.mode == "I" else (1.0, 255.0):
            if low >= 0 and high <= span:
                return _grey(values / span)
        return _grey((values - low) / (high - low) if high > low else values * 0)
    if image.mode == "La":  # has no direct way
        image = image.convert("LA")
    return image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.floor(values * 255 + 0.5).astype(np.uint8)).convert("RGB")
