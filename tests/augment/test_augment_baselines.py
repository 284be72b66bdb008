"""RandAugment, TrivialAugment and AutoAugment: their spaces, and how they draw from them."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pillow_ops import PILLOW, STRENGTHS

from rolewise.augment import SPACES, AutoAugment, Policy, RandAugment, TrivialAugment
from rolewise.augment.baselines import AUTOAUGMENT_BINS
from rolewise.augment.reference import Stream
from rolewise.augment.rng import stream_keys
from rolewise.errors import InputError

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


# The ranges of TrivialAugment's released code at 31 levels, read there and written down as numbers: shear, translation,
# rotation, least and greatest factor, most and fewest bits.
RELEASED = {
    "standard": (0.3, 10, 30, 0.1, 1.9, 4, 0),
    "fixed": (0.3, 10, 30, 0.1, 1.9, 8, 4),
    "wide": (0.99, 32, 135, 0.01, 2.0, 8, 2),
}


@pytest.mark.parametrize("space", RELEASED)
def test_ranges_of_the_released_code(space):
    """Whole numbers are truncated as `int(level * maximum / 30)` is, in exact arithmetic."""
    shear, pixels, degrees, least, greatest, most, fewest = RELEASED[space]
    found = strengths(TrivialAugment(space), height=32, width=50)
    assert set(found) == SPACE
    for level in range(31):
        assert found["ShearX"][level] == pytest.approx(shear * level / 30)
        assert found["ShearY"][level] == pytest.approx(shear * level / 30)
        assert found["TranslateX"][level] == found["TranslateY"][level] == level * pixels // 30
        assert found["Rotate"][level] == level * degrees // 30
        assert found["Posterize"][level] == most - level * (most - fewest) // 30
        assert found["Solarize"][level] == 256 - level * 256 // 30
        for name in ("Brightness", "Color", "Contrast", "Sharpness"):
            assert found[name][level] == pytest.approx(least + (greatest - least) * level / 30)
    assert strengths(RandAugment(2, 11, space)) == {
        name: [values[11]] for name, values in strengths(TrivialAugment(space)).items()
    }


def test_every_space_has_a_source_and_is_tested():
    assert set(SPACES) == {"mirrored", "mirrored-wide", *RELEASED}
    assert all(space.source for space in SPACES.values())


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
@pytest.mark.parametrize("policy", [RandAugment(1, 23), TrivialAugment(), *map(TrivialAugment, RELEASED)])
def test_equal_to_pillow(policy, height, width):
    """Factors 1 +- strength, rotation by right angles and all: what is drawn is what Pillow makes of it."""
    images = np.random.default_rng(0).integers(0, 256, (600, height, width, 3)).astype(np.uint8)
    result, exposed = policy.apply(images, seed=0, epoch=0, ids=np.arange(600))
    seen = set()
    for i, ((op, strength, _),) in enumerate(
        policy.trace(np.arange(600), seed=0, epoch=0, size=(height, width))
    ):
        distance = "mirrored" in policy.space and op in ("Brightness", "Color", "Contrast", "Sharpness")
        value = 1 + strength if distance else strength or 0
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


# AutoAugment's policy for CIFAR-10 as torchvision lists it: probability, and magnitude where the op has a strength.
TORCHVISION = """
Invert .1 - Contrast .2 6; Rotate .7 2 TranslateX .3 9; Sharpness .8 1 Sharpness .9 3; ShearY .5 8 TranslateY .7 9;
AutoContrast .5 - Equalize .9 -; ShearY .2 7 Posterize .3 7; Color .4 3 Brightness .6 7; Sharpness .3 9 Brightness .7 9;
Equalize .6 - Equalize .5 -; Contrast .6 7 Sharpness .6 5; Color .7 7 TranslateX .5 8; Equalize .3 - AutoContrast .4 -;
TranslateY .4 3 Sharpness .2 6; Brightness .9 6 Color .2 8; Solarize .5 2 Invert .0 -; Equalize .2 - AutoContrast .6 -;
Equalize .2 - Equalize .6 -; Color .9 9 Equalize .6 -; AutoContrast .8 - Solarize .2 8; Brightness .1 3 Color .7 0;
Solarize .4 5 AutoContrast .9 -; TranslateY .9 9 TranslateY .7 9; AutoContrast .9 - Solarize .8 3;
Equalize .8 - Invert .1 -; TranslateY .7 9 AutoContrast .9 -
"""
HALVES = [half for pair in TORCHVISION.split(";") for half in zip(*[iter(pair.split())] * 3, strict=True)]


class TestAutoAugment:
    def test_the_published_numbers(self):
        """In the authors' space, whose strengths are PBA's; torchvision's space is linear over ten magnitudes."""
        assert len(HALVES) == 50
        slots, (_, _, chances) = AutoAugment().slots(32, 32), AutoAugment().choice()
        mirrored = AutoAugment("mirrored").slots(331, 662)
        for (name, probability, magnitude), (op, strength), tenths, (other, value) in zip(
            HALVES, slots, chances, mirrored, strict=True
        ):
            assert op.name == other.name == name
            assert tenths == round(10 * float(probability))
            assert (magnitude == "-") == (op.strengths is None)
            if magnitude == "-":
                continue
            m = int(magnitude)
            assert strength == pytest.approx(STRENGTHS[name][m])
            expected = {
                "ShearY": 0.3 * m / 9,
                "TranslateX": int(150 / 331 * 662 * m / 9),
                "TranslateY": int(150 / 331 * 331 * m / 9),
                "Rotate": 30 * m / 9,
                "Posterize": 8 - round(4 * m / 9),
                "Solarize": math.ceil(round(255 - 255 * m / 9, 6)),
            }
            assert value == pytest.approx(expected.get(name, 0.9 * m / 9))

    @pytest.mark.parametrize("space", AUTOAUGMENT_BINS)
    @pytest.mark.parametrize(("height", "width"), [(32, 32), (9, 14)])
    def test_equal_to_pillow(self, space, height, width):
        """Both ops of a pair one after the other, alpha kept between them."""
        policy, n = AutoAugment(space), 1500
        images = np.random.default_rng(1).integers(0, 256, (n, height, width, 3)).astype(np.uint8)
        result, exposed = policy.apply(images, seed=3, epoch=2, ids=np.arange(n))
        seen = set()
        for i, ops in enumerate(policy.trace(np.arange(n), seed=3, epoch=2, size=(height, width))):
            image = Image.fromarray(images[i]).convert("RGBA")
            for op, strength, _ in ops:
                distance = space == "mirrored" and op in ("Brightness", "Color", "Contrast", "Sharpness")
                image = PILLOW[op](image, 1 + strength if distance else strength or 0)
                seen.add(op)
            expected = np.asarray(image)
            np.testing.assert_array_equal(result[i], expected[..., :3])
            np.testing.assert_array_equal(exposed[i], expected[..., 3] == 0)
        assert seen == {name for name, probability, _ in HALVES if float(probability) > 0}

    def test_pairs_are_drawn_as_a_loop_over_the_listing_draws_them(self):
        key = int(stream_keys(7, 5)[0])
        for image, ops in enumerate(AutoAugment().trace(np.arange(4000), seed=7, epoch=5)):
            stream, expected, index = Stream(key, image), [], 1
            pair = stream.below(1, 25)
            for name, probability, _ in HALVES[2 * pair : 2 * pair + 2]:
                index += 1
                if stream.below(index, 10) < round(10 * float(probability)):
                    expected.append((name, stream.below(index + 1, 2)))
                    index += 3
            assert [op.op for op in ops] == [name for name, _ in expected]
            for op, (name, sign) in zip(ops, expected, strict=True):
                if (
                    op.strength
                    and name in SIGNED
                    and name not in ("Brightness", "Color", "Contrast", "Sharpness")
                ):
                    assert (op.strength < 0) == bool(sign)

    def test_pairs_and_ops_are_as_frequent_as_published(self):
        traced = AutoAugment().trace(np.arange(30_000), seed=0, epoch=0)
        counts = Counter(op.op for ops in traced for op in ops)
        expected = Counter()
        for name, probability, _ in HALVES:
            expected[name] += float(probability) / 25
        for name, rate in expected.items():
            assert counts[name] / 30_000 == pytest.approx(rate, abs=4 * math.sqrt(rate / 30_000) + 1e-9)

    @pytest.mark.parametrize("space", ["wide", "standart", 3])
    def test_bad_spaces(self, space):
        with pytest.raises(InputError, match=r'"standard" or "mirrored", got "wide"|Unknown level space'):
            AutoAugment(space)


@pytest.mark.parametrize("make", [RandAugment, TrivialAugment])
def test_unknown_spaces(make):
    with pytest.raises(InputError, match='Unknown level space "wied".*Did you mean "wide"'):
        make(space="wied")
