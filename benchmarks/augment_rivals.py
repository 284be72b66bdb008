"""What our augmentation is measured against: a lean Pillow pipeline, and the published path, written again."""

import copy
import inspect
import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Slot = tuple[str, float, int]  # op, probability 0..1, magnitude
SIGNED = ("Rotate", "TranslateX", "TranslateY", "ShearX", "ShearY")


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def _enhancer(name: str) -> Callable[[Image.Image, int, Any], Image.Image]:
    kind = getattr(ImageEnhance, name)
    return lambda image, magnitude, sign: kind(image).enhance(magnitude * 1.8 / 10 + 0.1)


def _cutout(image: Image.Image, magnitude: int, sign: Any) -> Image.Image:
    if magnitude == 0:
        return image
    x, y = random.randrange(image.width), random.randrange(image.height)
    image = image.copy()
    image.paste((125, 122, 113, 0), (x - magnitude, y - magnitude, x + magnitude, y + magnitude))
    return image


def _through_rgb(
    change: Callable[..., Image.Image], *of_magnitude: Callable[[int], int]
) -> Callable[..., Image.Image]:
    return lambda image, m, sign: change(image.convert("RGB"), *(f(m) for f in of_magnitude)).convert("RGBA")


OPS: dict[str, Callable[[Image.Image, int, int], Image.Image]] = {
    "Rotate": lambda image, m, sign: image.rotate(sign * int(m * 30 / 10)),
    "TranslateX": lambda image, m, sign: _affine(image, 1, 0, sign * m, 0, 1, 0),
    "TranslateY": lambda image, m, sign: _affine(image, 1, 0, 0, 0, 1, sign * m),
    "ShearX": lambda image, m, sign: _affine(image, 1, sign * m * 0.3 / 10, 0, 0, 1, 0),
    "ShearY": lambda image, m, sign: _affine(image, 1, 0, 0, sign * m * 0.3 / 10, 1, 0),
    "Invert": _through_rgb(ImageOps.invert),
    "Equalize": _through_rgb(ImageOps.equalize),
    "AutoContrast": _through_rgb(ImageOps.autocontrast),
    "Posterize": _through_rgb(ImageOps.posterize, lambda m: 4 - int(m * 4 / 10)),
    "Solarize": _through_rgb(ImageOps.solarize, lambda m: 256 - int(m * 256 / 10)),
    "Cutout": _cutout,
    **{name: _enhancer(name) for name in ("Brightness", "Color", "Contrast", "Sharpness")},
}


class Lean:
    """Pillow with as little around it as its ops allow: bytes in, `asarray` out, slots that cannot fire left out."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = [(OPS[name], p, m, name in SIGNED) for name, p, m in slots if p > 0]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        result = np.empty_like(images)
        slots, uniform = list(self.slots), random.random
        for i, pixels in enumerate(images):
            tenth = uniform()
            budget = 0 if tenth < 0.2 else 1 if tenth < 0.5 else 2
            if budget == 0:
                result[i] = pixels
                continue
            image = Image.fromarray(pixels).convert("RGBA")
            random.shuffle(slots)
            for op, probability, magnitude, signed in slots:
                if uniform() < probability:
                    image = op(image, magnitude, -1 if signed and uniform() > 0.5 else 1)
                    budget -= 1
                    if budget == 0:
                        break
            result[i] = np.asarray(image)[..., :3]
        return result


class Published:
    """The published path, image by image, from and to normalized float64, with the glue of its authors' code.

    Per image: bytes are made of the normalized floats (truncating) and an RGBA image of them; the policy is copied
    and shuffled; for each slot a function and its printable name are built, and when it fires its signature is
    inspected; the result comes back pixel by pixel as a sequence, is divided, normalized, and exposed pixels become
    0. Then zero padding, crop, flip and cutout by a mask of float64, each an array of its own.
    """

    def __init__(self, slots: Sequence[Slot], mean: Sequence[float], std: Sequence[float]) -> None:
        self.slots = list(slots)
        self.mean, self.std = list(mean), list(std)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        batch = []
        for image in images:
            chosen = self._policy(image)
            batch.append(self._cutout(self._flip(self._crop(chosen)), 16))
        return np.array(batch, np.float32)

    def _policy(self, image: np.ndarray) -> np.ndarray:
        count = np.random.choice([0, 1, 2, 3], p=[0.2, 0.3, 0.5, 0.0])
        if count == 0:
            return image
        picture = Image.fromarray(np.uint8((image * self.std + self.mean) * 255.0)).convert("RGBA")
        slots = copy.copy(self.slots)
        random.shuffle(slots)
        for name, probability, magnitude in slots:
            function, _ = self._transformer(name, probability, magnitude)
            picture, fired = function(picture)
            count -= fired
            if count == 0:
                break
        return self._unwrapped(picture)

    def _transformer(self, name: str, probability: float, magnitude: int) -> tuple[Callable[..., Any], str]:
        def function(picture: Image.Image) -> tuple[Image.Image, bool]:
            if random.random() >= probability:
                return picture, False
            op = OPS[name]
            if "image_size" in inspect.getfullargspec(op).args:
                raise TypeError(name)
            sign = -1 if name in SIGNED and random.random() > 0.5 else 1
            return op(picture, magnitude, sign), True

        return function, f"{name}({probability:.1f},{magnitude})"

    def _unwrapped(self, picture: Image.Image) -> np.ndarray:
        with warnings.catch_warnings():  # newer Pillow versions deprecate it
            warnings.simplefilter("ignore", DeprecationWarning)
            pixels = np.array(picture.getdata()).reshape((*picture.size[::-1], 4)) / 255.0
        y, x = np.where(pixels[:, :, 3] == 0)
        values = (pixels[:, :, :3] - self.mean) / self.std
        values[y, x] = [0, 0, 0]
        return values

    @staticmethod
    def _crop(image: np.ndarray, amount: int = 4) -> np.ndarray:
        h, w, c = image.shape
        padded = np.zeros((h + 2 * amount, w + 2 * amount, c))
        padded[amount : h + amount, amount : w + amount, :] = image
        top, left = np.random.randint(0, 2 * amount), np.random.randint(0, 2 * amount)
        return padded[top : top + h, left : left + w, :]

    @staticmethod
    def _flip(image: np.ndarray) -> np.ndarray:
        return np.fliplr(image) if np.random.rand(1)[0] > 0.5 else image

    @staticmethod
    def _cutout(image: np.ndarray, side: int) -> np.ndarray:
        h, w, c = image.shape
        y, x = np.random.randint(0, h), np.random.randint(0, w)
        top, left = max(0, y - side // 2), max(0, x - side // 2)
        bottom, right = min(h, y + side // 2), min(w, x + side // 2)
        mask = np.ones((h, w, c))
        mask[top:bottom, left:right, :] = np.zeros((bottom - top, right - left, c))
        return image * mask
