"""The published ops by Pillow itself, written from their published description, on RGBA images."""

from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

PillowOp = Callable[[Image.Image, float], Image.Image]
ENHANCERS = ("Brightness", "Color", "Contrast", "Sharpness")


def _affine(matrix: Callable[[float], tuple[float, ...]]) -> PillowOp:
    return lambda image, v: image.transform(image.size, Image.Transform.AFFINE, matrix(v))


def _through_rgb(change: Callable[[Image.Image, int], Image.Image]) -> PillowOp:
    return lambda image, v: change(image.convert("RGB"), int(v)).convert("RGBA")


def _enhance(name: str) -> PillowOp:
    return lambda image, factor: getattr(ImageEnhance, name)(image).enhance(factor)


PILLOW: dict[str, PillowOp] = {
    "Rotate": lambda image, degrees: image.rotate(degrees),
    "TranslateX": _affine(lambda t: (1, 0, t, 0, 1, 0)),
    "TranslateY": _affine(lambda t: (1, 0, 0, 0, 1, t)),
    "ShearX": _affine(lambda v: (1, v, 0, 0, 1, 0)),
    "ShearY": _affine(lambda v: (1, 0, 0, v, 1, 0)),
    "Invert": _through_rgb(lambda image, _: ImageOps.invert(image)),
    "Equalize": _through_rgb(lambda image, _: ImageOps.equalize(image)),
    "AutoContrast": _through_rgb(lambda image, _: ImageOps.autocontrast(image)),
    "Posterize": _through_rgb(ImageOps.posterize),
    "Solarize": _through_rgb(ImageOps.solarize),
    **{name: _enhance(name) for name in ENHANCERS},
    "Identity": lambda image, _: image.copy(),
    "FlipLR": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "FlipUD": lambda image, _: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
}


def cutout(image: Image.Image, side: int, center: tuple[int, int]) -> Image.Image:
    """The square of `side` about `center` (x, y), clipped, in (125, 122, 113) with alpha 0."""
    (x, y), half = center, side // 2
    result = image.copy()
    if half > 0:
        result.paste((125, 122, 113, 0), (x - half, y - half, x + half, y + half))
    return result


# Strengths at magnitudes 0 to 9, copied from the published tables.
_FACTORS = [0.1 + 1.8 * m / 10 for m in range(10)]
STRENGTHS: dict[str, list[float]] = {
    "Rotate": [3 * m for m in range(10)],
    "TranslateX": list(range(10)),
    "TranslateY": list(range(10)),
    "Brightness": _FACTORS,
    "Color": _FACTORS,
    "Invert": [0] * 10,
    "Sharpness": _FACTORS,
    "Posterize": [4, 4, 4, 3, 3, 2, 2, 2, 1, 1],
    "ShearX": [0.3 * m / 10 for m in range(10)],
    "Solarize": [256, 231, 205, 180, 154, 128, 103, 77, 52, 26],
    "ShearY": [0.3 * m / 10 for m in range(10)],
    "Equalize": [0] * 10,
    "AutoContrast": [0] * 10,
    "Cutout": [2 * m for m in range(10)],
    "Contrast": _FACTORS,
}
SIGNED = ("Rotate", "TranslateX", "TranslateY", "ShearX", "ShearY")


def pillow_op(
    image: Image.Image, name: str, magnitude: int, sign: int, center: tuple[int, int]
) -> Image.Image:
    """One published op at a published magnitude."""
    strength = STRENGTHS[name][magnitude] * (sign if name in SIGNED else 1)
    return cutout(image, int(strength), center) if name == "Cutout" else PILLOW[name](image, strength)
