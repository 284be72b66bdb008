"""The kernels against the plain NumPy reference: ops, draws, batches. Both must agree to the byte."""

import augment_exact as exact
import numpy as np
import pytest
import torch

from rolewise.augment import OPS, BatchAugmenter, Policy, RandAugment, TrivialAugment, apply_op, reference
from rolewise.augment.policy import Applied

BUSY = Policy.from_vector([10, 7, 6, 3, 4, 5] * 10)
SIZES = [(32, 32), (1, 1), (2, 9), (17, 11)]


def pictures(n: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * 100 + width)
    smooth = np.linspace(0, 200, height * width).reshape(1, height, width, 1)
    return (smooth + rng.integers(0, 56, (n, height, width, 3))).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_ops(height, width):
    images = np.stack(list(exact.degenerate(height, width, np.random.default_rng(1))))
    at = exact.centers(len(images), height, width, np.random.default_rng(2))
    for case in exact.cases():
        name, magnitude, sign = case
        result = exact.ours(images, case, at)
        for i, image in enumerate(images):
            center = tuple(at[i].tolist()) if name == "Cutout" else None
            expected = reference.apply_one(image, Applied(name, OPS[name].strength(magnitude, sign), center))
            np.testing.assert_array_equal(result[i], expected)


def test_ops_beyond_the_published_ones():
    image = pictures(1, 5, 8)
    rgba = exact.opaque(image)
    for name in list(OPS)[15:]:
        np.testing.assert_array_equal(
            apply_op(name, rgba, 0)[0], reference.apply_one(rgba[0], Applied(name, None, None))
        )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_policy(height, width):
    images = pictures(150, height, width)
    ids = np.arange(150) * 7 - 20
    result, exposed = BUSY.apply(images, seed=5, epoch=9, ids=ids)
    for i, image in enumerate(images):
        expected = reference.augmented(BUSY, image, seed=5, epoch=9, image=int(ids[i]))
        np.testing.assert_array_equal(result[i], expected[..., :3])
        np.testing.assert_array_equal(exposed[i], expected[..., 3] == 0)


def test_draws_are_those_of_the_reference():
    traced = BUSY.trace(np.arange(300), seed=1, epoch=2, size=(20, 30))
    key = int(reference.stream_keys(1, 2)[0])
    assert traced == [tuple(reference.chosen_ops(BUSY, key, i, 20, 30)) for i in range(300)]


@pytest.mark.parametrize("policy", [BUSY, RandAugment(3, 20), TrivialAugment()])
def test_trace_names_the_ops_that_are_applied(policy):
    images = pictures(200, 13, 16)
    result, exposed = policy.apply(images, seed=3, epoch=4, ids=np.arange(200))
    around_one = not isinstance(policy, Policy)
    for i, applied in enumerate(policy.trace(np.arange(200), seed=3, epoch=4, size=(13, 16))):
        rgba = exact.opaque(images[i])
        for op in applied:
            if around_one and OPS[op.op].unit == "factor":
                op = op._replace(strength=1.0 + op.strength)
            rgba = reference.apply_one(rgba, op)
        np.testing.assert_array_equal(result[i], rgba[..., :3])
        np.testing.assert_array_equal(exposed[i], rgba[..., 3] == 0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (7, 10), (2, 3)])
@pytest.mark.parametrize(
    ("crop", "flip", "cutout"), [(4, True, 0), (4, True, 16), (0, False, 5), (9, True, 1)]
)
def test_batches(height, width, crop, flip, cutout):
    images, ids = pictures(60, height, width), np.arange(60) + 1000
    mean, std = (0.49, 0.48, 0.44), (0.247, 0.243, 0.261)
    augmenter = BatchAugmenter(mean, std, crop=crop, flip=flip, cutout=cutout)
    result = augmenter(images, policy=BUSY, seed=2, epoch=3, ids=ids)
    assert result.dtype == torch.float32
    for i, image in enumerate(images):
        rgba = reference.augmented(BUSY, image, seed=2, epoch=3, image=int(ids[i]))
        expected = reference.finished(
            rgba, mean, std, crop=crop, flip=flip, cutout_side=cutout, seed=2, epoch=3, image=int(ids[i])
        )
        np.testing.assert_array_equal(result[i].numpy(), expected)
