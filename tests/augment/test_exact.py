"""Every op, level and sign equals Pillow byte for byte, alpha plane included; the counts are printed."""

import augment_exact as exact
import numpy as np
import PIL
import pytest
from PIL import Image
from pillow_ops import PILLOW

from rolewise.augment import OPS, apply_op
from rolewise.data import load_data

CASES = 200  # 5 signed ops x 10 magnitudes x 2 signs, 10 other ops x 10 magnitudes


@pytest.fixture
def say(capsys):
    """Prints a line that is seen although output is captured."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n  Pillow {PIL.__version__}: {text}")

    return line


def test_all_cases_are_enumerated():
    assert len(set(exact.cases())) == CASES
    assert {name for name, _, _ in exact.cases()} == set(list(OPS)[:15])


def test_degenerate_images_of_all_sizes(say):
    rng = np.random.default_rng(0)
    compared = 0
    for height, width in exact.SIZES:
        counts = exact.count_single(
            np.stack(list(exact.degenerate(height, width, rng))), seed=height * 1000 + width
        )
        assert not exact.differing(counts)
        compared += counts["compared"]
    assert compared == CASES * len(exact.SIZES) * 11
    say(f"{compared} comparisons on degenerate images of {len(exact.SIZES)} sizes, 0 differ")


@pytest.mark.parametrize(("height", "width"), [(512, 512), (224, 160), (511, 3)])
def test_large_images(height, width, say):
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([(x + y) % 256, (3 * x) % 256, np.hypot(x, y) % 256], axis=-1)
    image = np.round(smooth + rng.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)
    counts = exact.count_single(exact.opaque(image)[None], seed=width)
    assert counts["compared"] == CASES
    assert not exact.differing(counts)
    say(f"{CASES} comparisons at {height} x {width}, 0 differ")


def test_digits(say):
    images = load_data("digits").train.images[:40].numpy()
    images[20:] = images[20:] // np.array([1, 2, 3], np.uint8) + np.array([0, 60, 120], np.uint8)
    counts = exact.count_single(exact.opaque(images))
    assert counts["compared"] == CASES * 40
    assert not exact.differing(counts)
    say(f"{counts['compared']} comparisons on images of digits, 0 differ")


def test_photographs(cifar10_root, say):
    images = load_data("cifar10", cifar10_root).train.images[:60].numpy()
    counts = exact.count_single(exact.opaque(images))
    assert counts["compared"] == CASES * 60
    assert not exact.differing(counts)
    say(f"{counts['compared']} comparisons on photographs of CIFAR-10, 0 differ")


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 14)])
def test_chains_of_two(height, width, say):
    rng = np.random.default_rng(height)
    ramp = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.2, 1, height)[:, None, None]
    image = (ramp * np.array([250, 180, 90]) + rng.integers(0, 6, (height, width, 3))).astype(np.uint8)
    counts = exact.count_chains(exact.opaque(image), exact.cases())
    assert counts["compared"] == CASES**2
    assert not exact.differing(counts)
    say(f"{CASES**2} chains of two at {height} x {width}, 0 differ")


def test_further_ops():
    rng = np.random.default_rng(3)
    for name in list(OPS)[15:]:
        for height, width in exact.SIZES:
            image = rng.integers(0, 256, (1, height, width, 4)).astype(np.uint8)
            expected = np.asarray(PILLOW[name](Image.fromarray(image[0]), 0))
            np.testing.assert_array_equal(apply_op(name, image, np.zeros(1, int))[0], expected)
