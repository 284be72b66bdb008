"""Comparisons of our ops with Pillow's, byte for byte: every op, level and sign, single and in chains of two."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image
from pillow_ops import SIGNED, STRENGTHS, pillow_op

from rolewise.augment import apply_op

SIZES = [
    (1, 1), (1, 2), (2, 1), (2, 2), (1, 9), (9, 1), (2, 7), (7, 2), (3, 3), (5, 8), (8, 8), (13, 11),
    (31, 33), (32, 32), (33, 31), (17, 96), (96, 17), (64, 64),
]  # fmt: skip
Case = tuple[str, int, int]  # op, magnitude, sign


def cases() -> list[Case]:
    """Every op at every magnitude with every sign: 5 signed ones with 20, 10 others with 10."""
    signs = {name: (1, -1) if name in SIGNED else (1,) for name in STRENGTHS}
    return [(name, m, sign) for name in STRENGTHS for m in range(10) for sign in signs[name]]


def degenerate(height: int, width: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """RGBA images: constant, two-valued, one odd pixel, ramps, noise; alpha whole, with holes, none, any."""
    shape = (height, width, 3)
    ramp = np.linspace(0, 255, height * width).reshape(height, width, 1)
    odd = np.full(shape, 128)
    odd[height // 2, width // 2] = (0, 255, 129)
    colors = [
        np.full(shape, 0),
        np.full(shape, 255),
        np.full(shape, 77),
        np.where(rng.random((height, width, 1)) < 0.5, 10, 201) + np.zeros(3),
        odd,
        rng.integers(100, 103, shape),
        rng.integers(0, 256, shape),
        ramp * np.array([1.0, 0.5, 0.25]) + np.array([0, 100, 3]),
        np.round(rng.normal(128, 20, shape)).clip(0, 255),
    ]
    for number, color in enumerate(colors):
        alpha = np.full((height, width, 1), 255)
        if number % 3 == 1:
            alpha[rng.random((height, width)) < 0.3] = 0
        yield np.concatenate([color, alpha], axis=-1).astype(np.uint8)
    yield np.concatenate([colors[6], np.zeros((height, width, 1))], axis=-1).astype(np.uint8)
    yield np.concatenate([colors[6], rng.integers(0, 256, (height, width, 1))], axis=-1).astype(np.uint8)


def opaque(rgb: np.ndarray) -> np.ndarray:
    """RGB images as RGBA."""
    return np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)


def centers(n: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Cutout centers (x, y), the corners first."""
    found = np.stack([rng.integers(0, width, n), rng.integers(0, height, n)], axis=-1)
    corners = [(0, 0), (width - 1, height - 1), (0, height - 1), (width - 1, 0)]
    found[: min(n, 4)] = corners[: min(n, 4)]
    return found


def ours(images: np.ndarray, case: Case, at: np.ndarray) -> np.ndarray:
    """Our op on a batch."""
    name, magnitude, sign = case
    n = len(images)
    signs = np.full(n, sign) if name in SIGNED else None
    return apply_op(name, images, np.full(n, magnitude), sign=signs, center=at if name == "Cutout" else None)


def count_single(images: np.ndarray, seed: int = 0) -> Counter[str]:
    """Compares all cases on a batch `(n, h, w, 4)`: how many images were compared, and how many differ, by op."""
    counts: Counter[str] = Counter()
    at = centers(len(images), *images.shape[1:3], np.random.default_rng(seed))
    pillow = [Image.fromarray(image) for image in images]
    before = images.copy()
    for case in cases():
        result = ours(images, case, at)
        for i, image in enumerate(pillow):
            expected = np.asarray(pillow_op(image, *case, center=tuple(at[i].tolist())))
            counts["compared"] += 1
            counts["pixels"] += expected.shape[0] * expected.shape[1]
            counts[f"differs: {case}"] += int(not np.array_equal(result[i], expected))
    assert np.array_equal(images, before)
    return +counts


def count_chains(image: np.ndarray, seconds: Iterable[Case], seed: int = 0) -> Counter[str]:
    """Every first case, then each of the second ones, on one image: chains of two with their alpha planes."""
    counts: Counter[str] = Counter()
    firsts = cases()
    at = centers(2 * len(firsts), *image.shape[:2], np.random.default_rng(seed))
    at, then = at[: len(firsts)], at[len(firsts) :]
    start = Image.fromarray(image)
    pillow = [pillow_op(start, *case, center=tuple(at[i].tolist())) for i, case in enumerate(firsts)]
    once = np.stack([ours(image[None], case, at[i : i + 1])[0] for i, case in enumerate(firsts)])
    for second in seconds:
        result = ours(once, second, then)
        expected = np.stack(
            [
                np.asarray(pillow_op(one, *second, center=tuple(then[i].tolist())))
                for i, one in enumerate(pillow)
            ]
        )
        same = (result == expected).reshape(len(firsts), -1).all(axis=1)
        counts["compared"] += len(firsts)
        for i in np.flatnonzero(~same):
            counts[f"differs: {firsts[i]} {second}"] += 1
    return counts


def differing(counts: Counter[str]) -> dict[str, int]:
    """What differs, for the message of a failing test."""
    return {name: count for name, count in counts.items() if name.startswith("differs")}
