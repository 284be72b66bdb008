"""The same augmentation in plain NumPy and Python, one image at a time: slow, to be read, and to test the kernels.

Nothing here is shared with `kernels.py` but the keys of the random streams and the table of strengths.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from rolewise.augment.ops import OPS
from rolewise.augment.policy import Applied, Policy
from rolewise.augment.rng import stream_keys

Image = np.ndarray  # uint8 (h, w, 4), R, G, B, alpha
_ALL = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Stream:
    """The random numbers of one image: draw i is a hash of the stream's start and i, whatever was drawn before."""

    def __init__(self, key: int, image: int) -> None:
        self.start = self._mixed(key ^ self._mixed((image + _GOLDEN) & _ALL))

    @staticmethod
    def _mixed(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _ALL
        return z ^ (z >> 31)

    def below(self, index: int, limit: int) -> int:
        """Draw number `index`, uniform over 0 .. limit - 1."""
        return ((self._mixed((self.start + index * _GOLDEN) & _ALL) >> 32) * limit) >> 32


def affine(image: Image, matrix: Sequence[float]) -> Image:
    """Output (x, y) shows input (ax + by + c, dx + ey + f), nearest neighbor, outside all zero.

    In Pillow's 16.16 fixed point: every coefficient is rounded on its own, positions are sums of them, so they drift
    from the exact ones by up to one pixel; that is part of what has to be equal.
    """
    a, b, c, d, e, f = matrix

    def fixed(value: float) -> int:
        return math.floor(value * 65536 + 0.5)

    h, w = image.shape[:2]
    y, x = np.mgrid[:h, :w]
    source_x = (fixed(c + a / 2 + b / 2) + x * fixed(a) + y * fixed(b)) >> 16
    source_y = (fixed(f + d / 2 + e / 2) + x * fixed(d) + y * fixed(e)) >> 16
    inside = (source_x >= 0) & (source_x < w) & (source_y >= 0) & (source_y < h)
    result = np.zeros_like(image)
    result[inside] = image[source_y[inside], source_x[inside]]
    return result


def rotate(image: Image, degrees: float) -> Image:
    """Counter-clockwise about the center."""
    h, w = image.shape[:2]
    angle = -math.radians(degrees % 360.0)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    c = cos * -(w / 2) + sin * -(h / 2) + w / 2
    f = -sin * -(w / 2) + cos * -(h / 2) + h / 2
    return affine(image, (cos, sin, c, -sin, cos, f))


def blend(degenerate: np.ndarray, image: Image, factor: float) -> Image:
    """Between (and, beyond 0..1, outside of) a degenerate version and the image, in float32; alpha is the image's."""
    d = np.broadcast_to(degenerate, image[..., :3].shape).astype(np.float32)
    v = image[..., :3].astype(np.float32)
    mixed = np.clip(d + np.float32(factor) * (v - d), 0, 255).astype(np.uint8)
    return np.concatenate([mixed, image[..., 3:]], axis=-1)


def gray(image: Image) -> np.ndarray:
    """Luma, `(h, w, 1)`."""
    r, g, b = (image[..., p : p + 1].astype(np.int64) for p in range(3))
    return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16


def contrast(image: Image, factor: float) -> Image:
    """Away from the mean gray, exposed pixels counted as they are."""
    return blend(np.array(math.floor(gray(image).mean() + 0.5)), image, factor)


def sharpness(image: Image, factor: float) -> Image:
    """Away from a blur of weights (1 1 1, 1 5 1, 1 1 1) / 13 that leaves the border as it is."""
    h, w = image.shape[:2]
    blurred = image[..., :3].astype(np.int64)
    if h >= 3 and w >= 3:
        shifts = [(y, x) for y in range(3) for x in range(3)]
        total = sum(image[y : y + h - 2, x : x + w - 2, :3].astype(np.int64) for y, x in shifts)
        total = total + 4 * blurred[1:-1, 1:-1]
        blurred[1:-1, 1:-1] = np.floor(total / 13 + 0.5)
    return blend(blurred, image, factor)


def through_rgb(change: Callable[[np.ndarray, float], np.ndarray]) -> Callable[[Image, float], Image]:
    """An op on RGB, which forgets what was exposed: alpha becomes 255."""

    def apply(image: Image, strength: float) -> Image:
        opaque = np.full_like(image[..., 3:], 255)
        return np.concatenate([change(image[..., :3], strength).astype(np.uint8), opaque], axis=-1)

    return apply


def equalize(rgb: np.ndarray, _: float) -> np.ndarray:
    """Each channel's values spread by their cumulative histogram."""
    result = rgb.copy()
    for p in range(3):
        counts = np.bincount(rgb[..., p].ravel(), minlength=256)
        filled = np.flatnonzero(counts)
        step = (counts.sum() - counts[filled[-1]]) // 255
        if len(filled) > 1 and step > 0:
            before = np.concatenate([[0], counts.cumsum()[:-1]])
            result[..., p] = np.minimum(255, (step // 2 + before) // step)[rgb[..., p]]
    return result


def autocontrast(rgb: np.ndarray, _: float) -> np.ndarray:
    """Each channel stretched to 0..255."""
    result = rgb.copy()
    for p in range(3):
        low, high = int(rgb[..., p].min()), int(rgb[..., p].max())
        if high > low:
            scale = 255.0 / (high - low)
            result[..., p] = np.clip((np.arange(256) * scale + -low * scale).astype(np.int64), 0, 255)[
                rgb[..., p]
            ]
    return result


def cutout(image: Image, side: float, center: tuple[int, int]) -> Image:
    """A square about the center (x, y), clipped, in gray and exposed."""
    (x, y), half = center, int(side) // 2
    result = image.copy()
    result[max(0, y - half) : max(0, y + half), max(0, x - half) : max(0, x + half)] = (125, 122, 113, 0)
    return result


REFERENCE: dict[str, Callable[[Image, float], Image]] = {
    "Rotate": rotate,
    "TranslateX": lambda image, t: affine(image, (1, 0, t, 0, 1, 0)),
    "TranslateY": lambda image, t: affine(image, (1, 0, 0, 0, 1, t)),
    "Brightness": lambda image, factor: blend(np.array(0), image, factor),
    "Color": lambda image, factor: blend(gray(image), image, factor),
    "Invert": through_rgb(lambda rgb, _: 255 - rgb),
    "Sharpness": sharpness,
    "Posterize": through_rgb(lambda rgb, bits: rgb & (256 - 2 ** (8 - int(bits)))),
    "ShearX": lambda image, v: affine(image, (1, v, 0, 0, 1, 0)),
    "Solarize": through_rgb(lambda rgb, threshold: np.where(rgb < threshold, rgb, 255 - rgb)),
    "ShearY": lambda image, v: affine(image, (1, 0, 0, v, 1, 0)),
    "Equalize": through_rgb(equalize),
    "AutoContrast": through_rgb(autocontrast),
    "Contrast": contrast,
    "Identity": lambda image, _: image.copy(),
    "FlipLR": lambda image, _: image[:, ::-1].copy(),
    "FlipUD": lambda image, _: image[::-1].copy(),
}


def apply_one(image: Image, applied: Applied) -> Image:
    """One op on one image."""
    if applied.center is not None:
        return cutout(image, applied.strength or 0, applied.center)
    return REFERENCE[applied.op](image, applied.strength or 0)


def chosen_ops(policy: Policy, key: int, image: int, height: int, width: int) -> list[Applied]:
    """The ops of one image under a PBA policy: a budget, then the shuffled slots, each with its probability."""
    stream = Stream(key, image)
    tenth = stream.below(1, 10)
    budget = 0 if tenth < 2 else 1 if tenth < 5 else 2
    slots = policy.live
    index = 1
    applied: list[Applied] = []
    for walked in range(len(slots)):
        if len(applied) == budget:
            break
        index += 1
        other = walked + stream.below(index, len(slots) - walked)
        slots[walked], slots[other] = slots[other], slots[walked]
        name, probability, magnitude = slots[walked]
        index += 1
        if stream.below(index, 10) >= probability:
            continue
        op = OPS[name]
        sign = -1 if op.signed and stream.below(index + 1, 2) else 1
        center = (
            (stream.below(index + 2, width), stream.below(index + 3, height)) if name == "Cutout" else None
        )
        applied.append(Applied(name, None if op.strengths is None else op.strength(magnitude, sign), center))
        index += 3
    return applied


def augmented(policy: Policy, rgb: np.ndarray, *, seed: int, epoch: int, image: int) -> Image:
    """One `(h, w, 3)` image under a policy, as RGBA: what `Policy.apply` does."""
    rgba = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)
    for applied in chosen_ops(policy, int(stream_keys(seed, epoch)[0]), image, *rgb.shape[:2]):
        rgba = apply_one(rgba, applied)
    return rgba


def finished(
    rgba: Image,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    crop: int,
    flip: bool,
    cutout_side: int,
    seed: int,
    epoch: int,
    image: int,
) -> np.ndarray:
    """Normalized float32 `(3, h, w)` after padding and crop, flip and cutout: the rest of `BatchAugmenter`."""
    h, w = rgba.shape[:2]
    exact = (rgba[..., :3].astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    values = np.where(rgba[..., 3:] > 0, exact.astype(np.float32), np.float32(0))
    stream = Stream(int(stream_keys(seed, epoch)[1]), image)
    down, right = stream.below(1, 2 * crop + 1), stream.below(2, 2 * crop + 1)
    values = np.pad(values, ((crop, crop), (crop, crop), (0, 0)))[down : down + h, right : right + w]
    if flip and stream.below(3, 2) == 1:
        values = values[:, ::-1]
    if cutout_side > 0:
        values = values.copy()
        x, y = stream.below(4, w) - cutout_side // 2, stream.below(5, h) - cutout_side // 2
        values[max(0, y) : max(0, y + cutout_side), max(0, x) : max(0, x + cutout_side)] = 0
    return np.ascontiguousarray(values.transpose(2, 0, 1))
