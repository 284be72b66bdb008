"""Your own images: `root/{train,test}/<class>/*`, brought to one size and to RGB."""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from rolewise.data.decoding import progress_bar
from rolewise.data.split import Channels, Data, Split
from rolewise.data.store import LARGE, Item, choose_store, collect
from rolewise.errors import InputError, check_integer

T = TypeVar("T")
MAX_SIZE = 1024
# Pillow would try some forty formats; one of them, EPS, starts a program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
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
        store = choose_store(form.store, part.parent / ".rolewise", part.name, key, size)
    found = collect(
        items, len(files), (side, side, form.channels), (form.size, form.size), skipped=bad, store=store
    )
    if found.skipped:
        skipped += [f"{part.name}/{item}" for item in found.skipped]
        warnings.warn(
            f"{part}: {len(found.skipped)} files are left out: {_some(found.skipped)}.", stacklevel=2
        )
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
            _opened(entry, lambda image: None)
        except BadFile as error:
            bad.append(f"{entry.relative_to(part)} ({error})")
    if bad:
        raise _unusable(part, bad, len(entries))


def _unusable(part: Path, bad: Sequence[str], count: int) -> InputError:
    return InputError(
        f"{part}: {len(bad)} of {count} files cannot be used: {_some(bad)}. Mend or remove them, or leave them out "
        "with `skip_bad=True` (command line: --set data.skip_bad=true, or --skip-bad of `data check`)."
    )


class BadFile(Exception):  # noqa: N818 - the words are what counts
    """Why a file is no image that can be used."""


def read_image(path: Path, size: int, *, channels: int = 3) -> UInt8[np.ndarray, "{size} {size} {channels}"]:
    """One image of a known format (`FORMATS`); turned as its EXIF data say; of an animation the first frame.

    Raises:
        BadFile: not a regular file, empty, no image, damaged, or of too many pixels.
    """
    return _opened(path, functools.partial(fit, size=size, channels=channels))


def _opened(path: Path, take: Callable[[Image.Image], T]) -> T:
    """What `take` makes of an image file; see `read_image` for the errors."""
    try:
        if not path.is_file():
            raise BadFile("a folder" if path.is_dir() else "no regular file, or a link that leads nowhere")
        if path.stat().st_size == 0:
            raise BadFile("empty")
        with (
            warnings.catch_warnings(),
            path.open("rb") as stream,
        ):
            # More pixels than Pillow deems safe (89 million) is a reason to refuse a file; its other warnings concern
            # metadata that are not used.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream, formats=_formats()) as image:
                return take(image)
    except BadFile:
        raise
    except UnidentifiedImageError:
        raise BadFile("no image of a known format") from None
    except Exception as error:
        # Pillow's decoders raise whatever a broken file leads them to (OSError, SyntaxError, struct.error, ...).
        raise BadFile(f"{type(error).__name__}: {error}".split("\n")[0][:120]) from None


# EXIF orientations: what makes the stored picture upright, and whether that reverses the stored x, the stored y.
_UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, True, False),
    3: (Image.Transpose.ROTATE_180, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: (Image.Transpose.TRANSPOSE, False, False),
    6: (Image.Transpose.ROTATE_270, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True),
    8: (Image.Transpose.ROTATE_90, True, False),
}
_ORIENTATION = 0x0112


def fit(image: Image.Image, size: int, *, channels: int = 3) -> UInt8[np.ndarray, "{size} {size} {channels}"]:
    """The middle square of an upright image, scaled to the size (bilinear, antialiased), as RGB or gray.

    The square is cut first, so that of a large picture nothing is copied that is not used. Of the EXIF data the
    orientation alone is read: rewriting all of them, as `ImageOps.exif_transpose` does, fails on odd entries.
    """
    turn, reversed_x, reversed_y = _UPRIGHT.get(_orientation(image), (None, False, False))
    image.load()
    side = min(image.size)
    left, top = ((long - side) // 2 for long in image.size)
    left = image.width - side - left if reversed_x else left
    top = image.height - side - top if reversed_y else top
    span = value_range(image)
    if image.size != (side, side):
        image = image.crop((left, top, left + side, top + side))
    if turn is not None:
        image = image.transpose(turn)
    scaled = to_rgb(image, span).resize((size, size), Image.Resampling.BILINEAR)
    if channels == 3:
        return np.array(scaled)
    return np.array(scaled.convert("L"))[:, :, None]


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged block of metadata is no reason to refuse a picture
        return 1


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def value_range(image: Image.Image) -> tuple[float, float] | None:
    """Least and greatest value of a deep gray image of 32 bits, over all of it; None for other modes."""
    if image.mode not in ("I", "F"):
        return None
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
    if not np.isfinite([low, high]).all() or not np.isfinite(np.asarray(image).sum(dtype=np.float64)):
        raise BadFile("holds values that are not finite")
    return low, high


def to_rgb(image: Image.Image, span: tuple[float, float] | None = None) -> Image.Image:
    """Any mode as RGB; deep grays are scaled to 8 bits, not clipped as Pillow's `convert` does.

    `I;16` spans 0..65535. `I` (32-bit integers) does so too if its values lie within, as those of 16-bit PGM files,
    else its own minimum to maximum. `F` spans 0..1 or 0..255 if its values lie within, else its minimum to maximum.
    Transparency is dropped, as `convert` does.

    Args:
        image: the image, or a part of one.
        span: minimum and maximum of the whole image, see `value_range`; None finds them here.
    """
    if image.mode.startswith("I;16"):
        return _gray(image, 0.0, 65535.0)
    if image.mode in ("I", "F"):
        low, high = span or value_range(image) or (0.0, 0.0)
        for top in (65535.0,) if image.mode == "I" else (1.0, 255.0):
            if low >= 0 and high <= top:
                return _gray(image, 0.0, top)
        return _gray(image, low, high)
    if image.mode == "La":  # has no direct way
        image = image.convert("LA")
    return image if image.mode == "RGB" else image.convert("RGB")


_ROWS = 2**20  # values of a deep gray image that are scaled at a time


def _gray(image: Image.Image, low: float, high: float) -> Image.Image:
    """Values from `low` to `high` as 0 to 255; some rows at a time, for the sake of memory."""
    values = np.asarray(image)
    result = np.empty(values.shape, np.uint8)
    step = max(1, _ROWS // values.shape[1])
    for start in range(0, len(values), step):
        part = values[start : start + step].astype(np.float64) - low
        scaled = part / (high - low) if high > low else part * 0
        result[start : start + step] = np.floor(scaled * 255 + 0.5).astype(np.uint8)
    return Image.fromarray(result).convert("RGB")
