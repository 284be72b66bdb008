"""Parts of larger images (window, random resized crop) and gray images, against Pillow and loops of our own."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from rolewise.augment import BatchAugmenter, Policy, normalize
from rolewise.augment.reference import Stream
from rolewise.augment.rng import stream_keys
from rolewise.errors import InputError, InputTypeError

ZERO, BYTES = (0.0,) * 3, (1 / 255,) * 3  # the batch then holds the bytes themselves
KEY = {"seed": 3, "epoch": 7}
BUSY = Policy.from_vector([10, 6] * 30)


def pictures(n: int = 40, height: int = 37, width: int = 29, channels: int = 3) -> torch.Tensor:
    """Smooth and noisy pictures: both kinds show a wrong weight."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (n, height, width, channels))
    y, x = np.mgrid[:height, :width]
    smooth = (128 + 127 * np.sin(y / 5) * np.cos(x / 7))[None, :, :, None] + np.zeros((n, 1, 1, channels))
    return torch.from_numpy(np.where(np.arange(n)[:, None, None, None] % 2, noise, smooth).astype(np.uint8))


def expected_part(image: int, height: int, width: int, low: float, high: float) -> tuple[int, int, int, int]:
    """(top, left, height, width) from the definition: ten tries of area and ratio, then the central part."""
    stream = Stream(int(stream_keys(**KEY)[2]), image)
    for attempt in range(10):
        area = height * width * (low + (high - low) * (stream.below(4 * attempt + 1, 2**24) / 2**24))
        step = stream.below(4 * attempt + 2, 1024) / 1023
        ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * step)
        w, h = math.floor(math.sqrt(area * ratio) + 0.5), math.floor(math.sqrt(area / ratio) + 0.5)
        if 0 < w <= width and 0 < h <= height:
            return (
                stream.below(4 * attempt + 3, height - h + 1),
                stream.below(4 * attempt + 4, width - w + 1),
                h,
                w,
            )
    if width / height < 3 / 4:
        h, w = round(width / 0.75), width
    elif width / height > 4 / 3:
        h, w = height, round(height * 4 / 3)
    else:
        h, w = height, width
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("form", ["nhwc", "nchw"])
@pytest.mark.parametrize(
    ("stored", "size", "shares"),
    [((37, 29), (16, 16), (0.08, 1.0)), ((24, 24), (24, 24), (0.3, 0.9)), ((20, 96), (13, 40), (0.8, 1.0)),
     ((16, 16), (33, 21), (0.05, 0.4)), ((200, 9), (8, 8), (0.9, 1.0))],
)  # fmt: skip
def test_random_resized_crop_is_pillows_crop_and_resize_byte_for_byte(form, stored, size, shares):
    images = pictures(40, *stored)
    given = images if form == "nhwc" else images.permute(0, 3, 1, 2).contiguous()
    augmenter = BatchAugmenter(ZERO, BYTES, crop=0, flip=False, size=size, resized=shares)
    batch = augmenter(given, policy=None, **KEY, ids=torch.arange(40) + 5)
    assert batch.shape == (40, 3, *size)
    different = set()
    for number, image in enumerate(images.numpy()):
        top, left, h, w = expected_part(number + 5, *stored, *shares)
        part = Image.fromarray(image).crop((left, top, left + w, top + h))
        # One direction at a time: which one Pillow does first when asked for both has changed with its version 13.
        columns = part.resize((size[1], h), Image.Resampling.BILINEAR)
        expected = np.array(columns.resize(size[::-1], Image.Resampling.BILINEAR))
        assert np.array_equal(batch[number].numpy().transpose(1, 2, 0).round(), expected)
        different.add((top, left, h, w))
    assert len(different) > (15 if shares[0] < 0.5 else 0)  # else no part fits, and the central one is taken


def test_areas_and_ratios_of_random_parts_have_their_distribution():
    """Of the 4,000 parts, which a large square seldom refuses: area uniform, ratio log-uniform (Kolmogorov-Smirnov)."""
    n, side = 4000, 300
    parts = [expected_part(image, side, side, 0.08, 0.5) for image in range(n)]
    areas = np.sort([(h * w / side**2 - 0.08) / 0.42 for _, _, h, w in parts])
    ratios = np.sort([(math.log(w / h) / math.log(4 / 3) + 1) / 2 for _, _, h, w in parts])
    for values in (areas, ratios):
        assert np.abs(values - (np.arange(n) + 0.5) / n).max() < 1.95 / math.sqrt(n)  # p = 0.001


def test_a_part_of_the_same_scale_where_images_are_larger():
    images = torch.arange(20 * 30, dtype=torch.int64).reshape(1, 20, 30, 1) % 251
    images = images.to(torch.uint8).expand(1, 20, 30, 3)
    n, size = 3000, (17, 28)
    augmenter = BatchAugmenter(ZERO, BYTES, crop=0, flip=False, size=size)
    index = torch.zeros(n, dtype=torch.int64)
    batch = augmenter(images, index=index, policy=None, **KEY, ids=torch.arange(n))[:, 0].round().long()
    counts = np.zeros((4, 3))
    for top in range(4):
        for left in range(3):
            there = images[0, top : top + 17, left : left + 28, 0].long()
            counts[top, left] = (batch == there).all(-1).all(-1).sum()
    assert counts.sum() == n
    assert ((counts - n / 12) ** 2 / (n / 12)).sum() < 31.3  # chi-square, 11 degrees, p = 0.001


@pytest.mark.parametrize("shares", [None, (0.2, 1.0)])
def test_the_policy_follows_the_part_and_only_the_key_decides(shares):
    images, ids = pictures(150), torch.arange(150) * 2
    settings = {"size": (16, 16), "resized": shares}
    parts = BatchAugmenter(ZERO, BYTES, crop=0, flip=False, **settings)(images, policy=None, **KEY, ids=ids)
    cut = parts.round().to(torch.uint8)
    expected = BatchAugmenter(ZERO, (1.0,) * 3, crop=2, cutout=3)(cut, policy=BUSY, **KEY, ids=ids)
    augmenter = BatchAugmenter(ZERO, (1.0,) * 3, crop=2, cutout=3, **settings)
    assert torch.equal(augmenter(images, policy=BUSY, **KEY, ids=ids), expected)
    threaded = BatchAugmenter(ZERO, (1.0,) * 3, crop=2, cutout=3, threads=3, **settings)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    assert torch.equal(threaded(images, index=order, policy=BUSY, **KEY, ids=ids[order]), expected[order])
    half = augmenter(images, policy=BUSY, **KEY, ids=ids, dtype=torch.bfloat16, channels_last=True)
    assert torch.equal(half, expected.bfloat16())
    assert not torch.equal(augmenter(images, policy=BUSY, seed=3, epoch=8, ids=ids), expected)


def test_gray_images_are_rgb_for_the_ops_and_pillows_luma_afterwards():
    gray, ids = pictures(60, 12, 10, channels=1), torch.arange(60)
    rgb = gray.expand(60, 12, 10, 3)
    result, exposed = BUSY.apply(rgb, **KEY, ids=ids)
    expected = np.stack([np.array(Image.fromarray(image).convert("L")) for image in result.numpy()])
    found, mask = BUSY.apply(gray, **KEY, ids=ids)
    assert found.shape == (60, 12, 10, 1)
    assert np.array_equal(found.numpy()[..., 0], expected)
    assert torch.equal(mask, exposed)
    planes, _ = BUSY.apply(gray.permute(0, 3, 1, 2).contiguous(), **KEY, ids=ids)
    assert torch.equal(planes[:, 0], found[..., 0])


@pytest.mark.parametrize("settings", [{}, {"size": (9, 9)}, {"size": (9, 9), "resized": (0.3, 1)}])
def test_a_gray_batch_has_one_channel_and_the_values_of_the_first_of_three(settings):
    gray, ids = pictures(60, 12, 10, channels=1), torch.arange(60)
    # Without Cutout, whose color is no gray, the three channels stay equal.
    policy = Policy([("Rotate", 10, 9), ("Equalize", 10, 3), ("Color", 10, 8), ("Contrast", 10, 2)])
    one = BatchAugmenter((0.4,), (0.3,), **settings)(gray, policy=policy, **KEY, ids=ids)
    three = BatchAugmenter((0.4,) * 3, (0.3,) * 3, **settings)(
        gray.expand(60, 12, 10, 3), policy=policy, **KEY, ids=ids
    )
    assert one.shape[1] == 1
    assert torch.equal(one.expand_as(three), three)
    if not settings:
        assert torch.equal(
            normalize(gray, (0.4,), (0.3,)),
            normalize(gray.expand(60, 12, 10, 3), (0.4,) * 3, (0.3,) * 3)[:, :1],
        )


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (lambda: BatchAugmenter(ZERO, BYTES, resized=(0, 1)), InputError, r"0 < low <= high <= 1, got \(0, 1\)"),
        (lambda: BatchAugmenter(ZERO, BYTES, resized=(0.5,)), InputTypeError, "must be two numbers"),
        (lambda: BatchAugmenter(ZERO, BYTES, size=(0, 4)), InputError, "`size` must be an integer from 1"),
        (
            lambda: BatchAugmenter(ZERO, BYTES, size=(99, 9))(pictures(), policy=None, **KEY, ids=None),
            InputError,
            "`size` must be at most that of the images, 37 x 29",
        ),
        (lambda: normalize(pictures(channels=1), ZERO, BYTES), InputError, "`images` have 1 channels, but `mean`"),
        (lambda: BatchAugmenter((0.5,), BYTES), InputError, "`std` must be three finite numbers"),
    ],
)  # fmt: skip
def test_bad_input(act, kind, words):
    with pytest.raises(kind, match=words):
        act()
