"""A contact sheet: originals beside augmented images, each with the ops that were applied."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rolewise.augment.policy import Applied, BasePolicy
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
        policy: of the epoch that is shown.
        images: uint8 `(n, h, w, 3)`.
        seed, epoch, ids: the key of the random numbers: the first column is what a run of this seed trains on.
        fill: red, green, blue of exposed pixels.
        variants: augmented images per row.
        side: of a shown image in pixels; images are enlarged by whole factors where that fits.
        title: above the sheet.

    Raises:
        InputError: no image, or fewer than one variant.
    """
    check_integer("variants", variants, 1, 100)
    if len(images) == 0:
        raise InputError("`images` must hold at least one image, got none.")
    height, width = images.shape[1:3]
    keys = [{"seed": seed + variant, "epoch": epoch} for variant in range(variants)]
    columns = [[[f"image {number}"] for number in ids]]
    pictures = [images]
    for key in keys:
        pictures.append(policy(images, **key, ids=list(ids), fill=fill))
        columns.append([captions(ops) for ops in policy.trace(list(ids), **key, size=(height, width))])
    scale = max(1, side // max(height, width))
    shown = (width * scale, height * scale) if max(height, width) <= side else (side, side * height // width)
    words = max(len(lines) for column in columns for lines in column)
    cell = (max(shown[0], side) + _MARGIN, shown[1] + words * _LINE + _MARGIN)
    top = _MARGIN + 2 * _LINE
    sheet = Image.new("RGB", (_MARGIN + cell[0] * len(columns), top + cell[1] * len(images)), _PAPER)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN), title, fill=_INK, font=_font())
    for column, (batch, texts) in enumerate(zip(pictures, columns, strict=True)):
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
    """One image with the words below it; enlarged by repeating pixels, so that they can be told apart."""
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
