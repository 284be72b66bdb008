"""A contact sheet: originals beside augmented images, each with the ops that were applied."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rolewise.augment.policy import Applied, BasePolicy
from rolewise.augment.schedule import Schedule
from rolewise.errors import InputError, check_integer

_MARGIN, _LINE, _LINES = 10, 13, 4
_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def contact_sheet(
    policy: BasePolicy,
    images: np.ndarray,
    *,
    seed: int,
    epoch: int,
    ids: Sequence[int],
    fill: Sequence[int],
    variants: int = 6,
    side: int = 112,
    title: str = "",
) -> Image.Image:
    """One row an image: the original, then `variants` augmentations (those of seeds `seed`, `seed + 1`, ...).

    Args:
        policy: policy of the epoch that is shown.
        images: uint8 `(n, h, w, 3)`.
        seed, epoch, ids: the key of the random numbers: the first column is what a run of this seed trains on.
        fill: red, green, blue of exposed pixels.
        variants: augmented images per row.
        side: side of a shown image in pixels; images are enlarged by whole factors where that fits.
        title: text above the sheet.

    Raises:
        InputError: no image, or fewer than one variant.
    """
    check_integer("variants", variants, 1, 100)
    columns = [(images, [[f"image {number}"] for number in ids])]
    for variant in range(variants):
        columns.append(_column(policy, images, seed=seed + variant, epoch=epoch, ids=ids, fill=fill))
    return _sheet(columns, side, title)


def epoch_strip(
    schedule: Schedule,
    images: np.ndarray,
    *,
    seed: int,
    epochs: Sequence[int],
    ids: Sequence[int],
    fill: Sequence[int],
    side: int = 112,
    title: str = "",
) -> Image.Image:
    """One row an image: the original, then what it becomes in each of `epochs` of a run of this seed.

    Args: as of `contact_sheet`.

    Raises:
        InputError: no image, no epoch, or one that the schedule does not have.
    """
    if not epochs:
        raise InputError("`epochs` must hold at least one epoch, got none.")
    columns = [(images, [[f"image {number}"] for number in ids])]
    for epoch in epochs:
        shown, lines = _column(schedule[epoch], images, seed=seed, epoch=epoch, ids=ids, fill=fill)
        columns.append((shown, [[f"epoch {epoch}", *words] for words in lines]))
    return _sheet(columns, side, title)


_Column = tuple[np.ndarray, list[list[str]]]  # images, and the lines below each


def _column(
    policy: BasePolicy, images: np.ndarray, *, seed: int, epoch: int, ids: Sequence[int], fill: Any
) -> _Column:
    """The images under one policy, and which ops each got."""
    if len(images) == 0:
        raise InputError("`images` must hold at least one image, got none.")
    key: Any = {"seed": seed, "epoch": epoch}
    traced = policy.trace(list(ids), **key, size=images.shape[1:3])
    return policy(images, **key, ids=list(ids), fill=fill), [captions(ops) for ops in traced]


def _sheet(columns: Sequence[_Column], side: int, title: str) -> Image.Image:
    """Columns of images side by side, with their lines."""
    count, height, width = columns[0][0].shape[:3]
    scale = max(1, side // max(height, width))
    shown = (width * scale, height * scale) if max(height, width) <= side else (side, side * height // width)
    words = max(len(lines) for _, texts in columns for lines in texts)
    cell = (max(shown[0], side) + _MARGIN, shown[1] + words * _LINE + _MARGIN)
    top = _MARGIN + 2 * _LINE
    sheet = Image.new("RGB", (_MARGIN + cell[0] * len(columns), top + cell[1] * count), _PAPER)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN), title, fill=_INK, font=_font())
    for column, (batch, texts) in enumerate(columns):
        for row, (image, lines) in enumerate(zip(batch, texts, strict=True)):
            corner = (_MARGIN + column * cell[0], top + row * cell[1])
            _put(sheet, corner, image, shown, lines, _INK if column else _FAINT)
    return sheet


def _put(
    sheet: Image.Image,
    corner: tuple[int, int],
    image: np.ndarray,
    size: tuple[int, int],
    lines: Sequence[str],
    color: tuple[int, int, int],
) -> None:
    """One image with the words below it; enlarged by repeating pixels, so that single pixels stay visible."""
    method = Image.Resampling.NEAREST if size[0] >= image.shape[1] else Image.Resampling.LANCZOS
    sheet.paste(Image.fromarray(image).resize(size, method), corner)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((corner[0], corner[1] + size[1] + 1 + number * _LINE), line, fill=color, font=_font())


@cache
def _font() -> Any:
    return ImageFont.load_default(11)


def captions(applied: Sequence[Applied]) -> list[str]:
    """One line an op, in order; what does not fit is counted."""
    lines = [str(op) for op in applied] or ["-"]
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], f"and {len(lines) - _LINES + 1} more"]
