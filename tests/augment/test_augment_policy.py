"""Policies: vectors, what they draw, and that nothing but the key decides what an image becomes."""

import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rolewise.augment import OPS, Policy, RandAugment, TrivialAugment
from rolewise.errors import InputError, InputTypeError

BUSY = Policy.from_vector([10, 6] * 30)
KEY = {"seed": 3, "epoch": 7}


def pictures(n: int = 40, height: int = 12, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 9)), min_size=30, max_size=30))
def test_vector_round_trip(pairs):
    vector = [number for pair in pairs for number in pair]
    policy = Policy.from_vector(vector)
    assert policy.to_vector() == vector
    assert len(policy.settings) == 30
    assert Policy(policy.settings) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy


def test_slots_of_the_vector():
    policy = Policy.from_vector(np.arange(60) % 10)
    assert policy.settings[0] == ("Rotate", 0, 1)
    assert policy.settings[14] == ("Contrast", 8, 9)
    assert policy.settings[29] == ("Contrast", 8, 9)
    assert policy.settings[8][0] == policy.settings[23][0] == "ShearX"  # entries 16, 17 and 46, 47
    assert all(type(number) is int for setting in policy.settings for number in setting[1:])
    assert Policy.from_vector(torch.zeros(60, dtype=torch.int64)) == Policy.none()


def test_order_of_settings_does_not_matter():
    shuffled = list(BUSY.settings)
    random.Random(0).shuffle(shuffled)
    assert Policy(shuffled) == BUSY
    assert Policy([("Identity", 1, 1), ("Rotate", 2, 3)]).settings == (("Rotate", 2, 3), ("Identity", 1, 1))


def test_budget_and_order_of_ops():
    """0, 1 or 2 ops with 0.2, 0.3, 0.5; each slot equally likely to be first; each sign for half of the images."""
    n = 40_000
    traced = BUSY.trace(np.arange(n), seed=0, epoch=0)
    counts = Counter(map(len, traced))
    assert [counts[c] / n for c in (0, 1, 2)] == pytest.approx([0.2, 0.3, 0.5], abs=4 * 0.0025)
    assert sum(c * counts[c] for c in counts) / n == pytest.approx(1.3, abs=0.02)
    first = Counter(ops[0].op for ops in traced if ops)
    assert set(first) == set(list(OPS)[:15])
    expected = 0.8 * n / 15
    assert (
        sum((k - expected) ** 2 / expected for k in first.values()) < 36.1
    )  # chi-square, 14 degrees, p = 0.001
    rotations = [op.strength for ops in traced for op in ops if op.op == "Rotate"]
    assert set(rotations) == {18, -18}
    assert np.mean([r > 0 for r in rotations]) == pytest.approx(0.5, abs=0.04)


def test_probabilities_are_tenths():
    n = 40_000
    policy = Policy([("Color", 3, 0), ("Invert", 8, 0)])
    traced = policy.trace(np.arange(n), seed=0, epoch=0)
    fired = Counter(op.op for ops in traced for op in ops)
    # Budget 2 (0.5): each fires with its own probability. Budget 1 (0.3): also, unless the other came first and fired.
    color = 0.5 * 0.3 + 0.3 * (0.5 * 0.3 + 0.5 * 0.2 * 0.3)
    invert = 0.5 * 0.8 + 0.3 * (0.5 * 0.8 + 0.5 * 0.7 * 0.8)
    assert fired["Color"] / n == pytest.approx(color, abs=0.01)
    assert fired["Invert"] / n == pytest.approx(invert, abs=0.01)


def test_cutout_centers_are_uniform_over_width_and_height():
    policy = Policy([("Cutout", 10, 2)])
    centers = [
        op.center for ops in policy.trace(np.arange(30_000), seed=0, epoch=0, size=(4, 6)) for op in ops
    ]
    counts = Counter(centers)
    assert set(counts) == {(x, y) for x in range(6) for y in range(4)}
    expected = len(centers) / 24
    assert (
        sum((k - expected) ** 2 / expected for k in counts.values()) < 49.7
    )  # chi-square, 23 degrees, p = 0.001


def test_nothing_fires_at_probability_zero():
    images = pictures()
    for policy in (Policy.none(), Policy.from_vector([0, 9] * 30), Policy([])):
        result, exposed = policy.apply(images, **KEY, ids=np.arange(40))
        np.testing.assert_array_equal(result, images)
        assert not exposed.any()


def test_only_the_key_decides():
    images, ids = pictures(100), np.arange(100) * 3 + 5
    before = images.copy()
    whole, exposed = BUSY.apply(images, **KEY, ids=ids)
    np.testing.assert_array_equal(images, before)
    assert exposed.any()
    order = np.random.default_rng(1).permutation(100)
    shuffled, _ = BUSY.apply(images[order], **KEY, ids=ids[order])
    np.testing.assert_array_equal(shuffled, whole[order])
    parts = [BUSY.apply(images[i : i + 7], **KEY, ids=ids[i : i + 7])[0] for i in range(0, 100, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    for threads in (2, 3, 8):
        again, mask = BUSY.apply(images, **KEY, ids=ids, threads=threads)
        np.testing.assert_array_equal(again, whole)
        np.testing.assert_array_equal(mask, exposed)
    assert not np.array_equal(BUSY.apply(images, seed=4, epoch=7, ids=ids)[0], whole)
    assert not np.array_equal(BUSY.apply(images, seed=3, epoch=8, ids=ids)[0], whole)
    assert not np.array_equal(BUSY.apply(images, **KEY, ids=ids + 1)[0], whole)


def test_layouts_and_kinds_agree():
    nhwc, ids = pictures(20), np.arange(20)
    expected, exposed = BUSY.apply(nhwc, **KEY, ids=ids)
    nchw = np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))
    last = torch.from_numpy(nchw).contiguous(memory_format=torch.channels_last)
    for images in (
        nchw,
        torch.from_numpy(nchw),
        last,
        torch.from_numpy(nhwc),
        nhwc[::1, :, ::1],
        nhwc[:, ::-1][:, ::-1],
    ):
        result, mask = BUSY.apply(images, **KEY, ids=torch.from_numpy(ids))
        assert type(result) is type(images)
        assert type(mask) is type(images)
        assert result.shape == images.shape
        array = np.asarray(result)
        np.testing.assert_array_equal(
            array if array.shape[-1] == 3 else array.transpose(0, 2, 3, 1), expected
        )
        np.testing.assert_array_equal(np.asarray(mask), exposed)
    both = pictures(4, 5, 3)[:, :3]  # (4, 3, 3, 3): read as nhwc
    np.testing.assert_array_equal(BUSY.apply(both, **KEY, ids=None)[0], BUSY.apply(both.copy(), **KEY)[0])


def test_one_image():
    images = pictures(5)
    whole, exposed = BUSY.apply(images, **KEY, ids=np.arange(5))
    for i, image in enumerate(images):
        one, mask = BUSY.apply(image, **KEY, ids=i)
        np.testing.assert_array_equal(one, whole[i])
        np.testing.assert_array_equal(mask, exposed[i])
        planes, _ = BUSY.apply(torch.from_numpy(image).permute(2, 0, 1), **KEY, ids=[i])
        np.testing.assert_array_equal(planes.numpy().transpose(1, 2, 0), whole[i])


def test_no_images():
    result, exposed = BUSY.apply(pictures(0), **KEY, ids=[])
    assert result.shape == (0, 12, 9, 3)
    assert exposed.shape == (0, 12, 9)


def test_call_fills_exposed_pixels():
    images, ids = pictures(), np.arange(40)
    plain, exposed = BUSY.apply(images, **KEY, ids=ids)
    filled = BUSY(images, **KEY, ids=ids, fill=(1, 2, 3))
    np.testing.assert_array_equal(filled, np.where(exposed[..., None], np.array([1, 2, 3], np.uint8), plain))
    default = BUSY(images, **KEY, ids=ids)
    np.testing.assert_array_equal(default[exposed], np.broadcast_to([125, 122, 113], (exposed.sum(), 3)))


def test_call_on_a_pil_image():
    image = pictures(1)[0]
    result = BUSY(Image.fromarray(image), **KEY, ids=11)
    assert isinstance(result, Image.Image)
    assert result.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(result), BUSY(image, **KEY, ids=11))
    gray = Image.fromarray(image[..., 0])
    np.testing.assert_array_equal(
        np.asarray(BUSY(gray, **KEY, ids=11)), BUSY(np.repeat(image[..., :1], 3, axis=2), **KEY, ids=11)
    )
    with pytest.raises(InputError, match=r'mode RGB or L, got RGBA: \.convert\("RGB"\)'):
        BUSY(Image.fromarray(image).convert("RGBA"))


def test_call_without_a_key_draws_from_random():
    images = pictures()
    random.seed(5)
    first, second = BUSY(images), BUSY(images)
    random.seed(5)
    np.testing.assert_array_equal(BUSY(images), first)
    assert not np.array_equal(first, second)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    BUSY(images)
    np.testing.assert_array_equal(np.random.get_state()[1], state[0])
    assert torch.equal(torch.get_rng_state(), state[1])


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: Policy.from_vector([0] * 59), InputError, "`vector` must hold 60 integers .* got 59"),
        (lambda: Policy.from_vector("0" * 60), InputTypeError, "sequence of integers, got str"),
        (lambda: Policy.from_vector([0.5] + [0] * 59), InputTypeError, "from 0 to 10, got 0.5"),
        (lambda: Policy.from_vector([float("nan")] * 60), InputTypeError, "got nan"),
        (lambda: Policy.from_vector([11] + [0] * 59), InputError, 'got 11 .op "Rotate", slot 0'),
        (lambda: Policy.from_vector([0, 10] + [0] * 58), InputError, "`magnitude` must be .* got 10"),
        (lambda: Policy.from_vector([11, 10] + [0, -1] * 29), InputError, "(?s)got 11 .*got 10 .*got -1"),
        (lambda: Policy([("Rotat", 1, 1), ("Colour", 1, 1)]), InputError, '(?s)mean "Rotate".*mean "Color"'),
        (lambda: Policy([("Rotate", 1)]), InputTypeError, r"`settings\[0\]` must be \(op, probability, magnitude\)"),
        (lambda: Policy([("Rotate", 1, 1)]).to_vector(), InputError, "this one has 1 slots"),
        (lambda: RandAugment().to_vector(), InputError, "RandAugment has no vector"),
        (lambda: TrivialAugment().to_vector(), InputError, "TrivialAugment has no vector"),
        (lambda: RandAugment(magnitude=31), InputError, "`magnitude` must be an integer from 0 to 30, got 31"),
        (lambda: BUSY.apply(pictures() / 255, **KEY), InputTypeError, "`images` must be uint8 .*float64"),
        (lambda: BUSY.apply(pictures()[..., :2], **KEY), InputError, r"\(n, 3, h, w\).*got \(40, 12, 9, 2\)"),
        (lambda: BUSY.apply(pictures()[0, 0], **KEY), InputError, r"got \(9, 3\)"),
        (lambda: BUSY.apply([1], **KEY), InputTypeError, "array or tensor, got list"),
        (lambda: BUSY.apply(pictures(3), **KEY, ids=[1, 2]), InputError, r"shape \(3,\), got \(2,\)"),
        (lambda: BUSY.apply(pictures(3), **KEY, ids=[1.0, 2, 3]), InputTypeError, "`ids` must be integers"),
        (lambda: BUSY.apply(pictures(3), seed=True, epoch=0), InputTypeError, "`seed` must be an integer, got True"),
        (lambda: BUSY(pictures(), fill=(1, 2)), InputError, "`fill` must be three values from 0 to 255"),
        (lambda: BUSY(pictures(), fill=(1, 2, 256)), InputError, "from 0 to 255, got 256"),
    ],
)  # fmt: skip
def test_bad_input(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


def test_gpu_tensors_are_refused():
    with pytest.raises(InputError, match=r"CPU's memory, got a tensor on meta: call \.cpu"):
        BUSY.apply(torch.zeros(1, 4, 4, 3, dtype=torch.uint8, device="meta"), **KEY)
