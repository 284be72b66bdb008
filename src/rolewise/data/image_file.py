"""One image file: known formats alone, turned upright, cut to its middle square, scaled, as RGB or gray."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

T = TypeVar("T")
# Pillow would try some forty formats; one of them, EPS, starts a program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")


class BadFile(Exception):  # noqa: N818 - the words are what counts
    """Why a file is no image that can be used."""


def read_image(path: Path, size: int, *, channels: int = 3) -> UInt8[np.ndarray, "{size} {size} {channels}"]:
    """One image of a known format (`FORMATS`); turned as its EXIF data say; of an animation the first frame.

    Raises:
        BadFile: not a regular file, empty, no image, damaged, or of too many pixels.
    """
    return open_image(path, functools.partial(fit, size=size, channels=channels))


def open_image(path: Path, take: Callable[[Image.Image], T]) -> T:
    """What `take` makes of an image file, which may be to look at its header alone; errors as of `read_image`."""
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
