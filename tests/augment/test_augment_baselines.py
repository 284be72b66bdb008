"""RandAugment and TrivialAugment: their spaces, and how they draw from them."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pillow_ops import PILLOW

from rolewise.augment import Policy, RandAugment, TrivialAugment

SPACE = {
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
}  # fmt: skip
SIGNED = {
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
}


def strengths(policy, height: int = 32, width: int = 32) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for op, strength in policy.slots(height, width):
        found.setdefault(op.name, []).append(strength)
    return found


@pytest.mark.parametrize("magnitude", [0, 1, 9, 17, 30])
def test_randaugment_strengths(magnitude):
    """Its published ranges in thirtieths."""
    part = magnitude / 30
    found = strengths(RandAugment(2, magnitude), height=331, width=662)
    assert set(found) == SPACE
    for name in ("ShearX", "ShearY"):
        assert found[name] == pytest.approx([0.3 * part])
    assert found["TranslateX"] == [int(150 / 331 * 662 * part)]
    assert found["TranslateY"] == [int(150 / 331 * 331 * part)]
    assert found["Rotate"] == pytest.approx([30 * part])
    for name in ("Brightness", "Color", "Contrast", "Sharpness"):
        assert found[name] == pytest.approx([0.9 * part])
    assert found["Posterize"] == [8 - round(magnitude / (30 / 4))]
    assert found["Solarize"] == [math.ceil(255 - 8.5 * magnitude)]


def test_trivialaugment_strengths():
    """The wide space in 31 bins each."""
    found = strengths(TrivialAugment())
    assert set(found) == SPACE
    steps = np.arange(31)
    np.testing.assert_allclose(found["ShearX"], 0.99 * steps / 30)
    np.testing.assert_array_equal(found["TranslateY"], [int(32 * k / 30) for k in range(31)])
    np.testing.assert_allclose(found["Rotate"], 4.5 * steps)
    np.testing.assert_allclose(found["Color"], 0.033 * steps)
    np.testing.assert_array_equal(found["Posterize"], [8 - round(k / 5) for k in range(31)])
    np.testing.assert_array_equal(found["Solarize"], [math.ceil(255 - 8.5 * k) for k in range(31)])


@pytest.mark.parametrize(("policy", "count"), [(RandAugment(3, 30), 3), (TrivialAugment(), 1)])
def test_ops_are_drawn_uniformly(policy, count):
    traced = policy.trace(np.arange(9000), seed=0, epoch=0)
    assert {len(ops) for ops in traced} == {count}
    names = Counter(op.op for ops in traced for op in ops)
    assert set(names) == SPACE
    expected = 9000 * count / 14
    assert (
        sum((k - expected) ** 2 / expected for k in names.values()) < 34.5
    )  # chi-square, 13 degrees, p = 0.001
    signs: dict[str, list[bool]] = {}
    for ops in traced:
        for op in ops:
            if op.strength and op.op in SIGNED:
                signs.setdefault(op.op, []).append(op.strength > 0)
    assert set(signs) == SIGNED
    assert all(np.mean(found) == pytest.approx(0.5, abs=0.1) for found in signs.values())


@pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 9), (7, 12), (1, 5)])
@pytest.mark.parametrize("policy", [RandAugment(1, 23), TrivialAugment()])
def test_equal_to_pillow(policy, height, width):
    """Factors 1 +- strength, rotation by right angles and all: what is drawn is what Pillow makes of it."""
    images = np.random.default_rng(0).integers(0, 256, (600, height, width, 3)).astype(np.uint8)
    result, exposed = policy.apply(images, seed=0, epoch=0, ids=np.arange(600))
    seen = set()
    for i, ((op, strength, _),) in enumerate(
        policy.trace(np.arange(600), seed=0, epoch=0, size=(height, width))
    ):
        value = 1 + strength if op in ("Brightness", "Color", "Contrast", "Sharpness") else strength or 0
        expected = np.asarray(PILLOW[op](Image.fromarray(images[i]).convert("RGBA"), value))
        np.testing.assert_array_equal(result[i], expected[..., :3])
        np.testing.assert_array_equal(exposed[i], expected[..., 3] == 0)
        seen.add(op)
    assert seen == SPACE


@pytest.mark.parametrize("degrees", [-180, -135, -90, 45, 90, 180, 270, 360])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 5), (6, 9)])
def test_right_angles(degrees, height, width):
    """Pillow transposes there; the general path gives the same bytes."""
    from rolewise.augment import reference
    from rolewise.augment.kernels import GIVEN
    from rolewise.augment.ops import OPS, make_program

    image = np.random.default_rng(0).integers(1, 256, (height, width, 4)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(image).rotate(degrees))
    np.testing.assert_array_equal(reference.rotate(image, degrees), expected)
    numbers = make_program([(OPS["Rotate"], degrees)], height, width, mode=GIVEN).numbers[0, 0]
    matrix = numbers.tolist()
    y, x = np.mgrid[:height, :width]
    across = (matrix[2] + x * matrix[0] + y * matrix[1]) >> 16
    down = (matrix[5] + x * matrix[3] + y * matrix[4]) >> 16
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    sampled = np.where(inside[..., None], image[down.clip(0, height - 1), across.clip(0, width - 1)], 0)
    np.testing.assert_array_equal(sampled, expected)


def test_no_ops():
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3)).astype(np.uint8)
    result, exposed = RandAugment(num_ops=0).apply(images, seed=0, epoch=0)
    np.testing.assert_array_equal(result, images)
    assert not exposed.any()
    assert RandAugment() == RandAugment(2, 9) != RandAugment(2, 10)
    assert TrivialAugment() == TrivialAugment()
    assert Policy.none() != TrivialAugment()
