"""Training batches: crop, flip, cutout, normalization, types, layouts. (Exact values: `test_augment_reference.py`.)"""

import pickle

import numpy as np
import pytest
import torch

from rolewise.augment import BatchAugmenter, Policy, normalize
from rolewise.errors import InputError, InputTypeError

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
BUSY = Policy.from_vector([10, 6] * 30)
KEY = {"seed": 3, "epoch": 7}


def pictures(n: int = 50, height: int = 12, width: int = 10) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (n, height, width, 3), generator=generator, dtype=torch.uint8)


def test_normalization_is_rounded_once():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (MEAN, STD))
    exact = (images.double().permute(0, 3, 1, 2) / 255 - mean) / std
    assert torch.equal(normalize(images, MEAN, STD), exact.float())
    assert torch.equal(normalize(images, MEAN, STD, dtype=torch.bfloat16), exact.float().bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_types_and_layouts_hold_the_same_values(dtype, channels_last):
    images, ids = pictures(), torch.arange(50)
    augmenter = BatchAugmenter(MEAN, STD, crop=2, cutout=4)
    expected = augmenter(images, policy=BUSY, **KEY, ids=ids)
    assert expected.is_contiguous()
    options = {"dtype": dtype, "channels_last": channels_last}
    result = augmenter(images, policy=BUSY, **KEY, ids=ids, **options)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=layout)
    assert torch.equal(result, expected.to(dtype))
    planes = images.permute(0, 3, 1, 2).contiguous()
    assert torch.equal(augmenter(planes, policy=BUSY, **KEY, ids=ids, **options), result)
    out = torch.full_like(result, float("nan"))
    assert augmenter(images, policy=BUSY, **KEY, ids=ids, out=out, **options) is out
    assert torch.equal(out, result)
    assert torch.equal(normalize(images, MEAN, STD, **options), normalize(images, MEAN, STD).to(dtype))


def test_without_policy_crop_and_flip_it_only_normalizes():
    images = pictures()
    plain = BatchAugmenter(MEAN, STD, crop=0, flip=False)
    assert torch.equal(plain(images, policy=None, **KEY, ids=torch.arange(50)), normalize(images, MEAN, STD))


def test_ops_are_those_of_the_policy():
    images, ids = pictures(), torch.arange(50) + 9
    result, exposed = BUSY.apply(images, **KEY, ids=ids)
    expected = torch.where(exposed[:, None], torch.zeros(()), normalize(result, MEAN, STD))
    plain = BatchAugmenter(MEAN, STD, crop=0, flip=False)
    assert torch.equal(plain(images, policy=BUSY, **KEY, ids=ids), expected)
    assert exposed.any()


def test_only_the_key_decides():
    images, ids = pictures(150), torch.arange(150) * 2
    augmenter = BatchAugmenter(MEAN, STD, cutout=5)
    whole = augmenter(images, policy=BUSY, **KEY, ids=ids)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augmenter(images[order], policy=BUSY, **KEY, ids=ids[order]), whole[order])
    assert torch.equal(augmenter(images, index=order, policy=BUSY, **KEY, ids=ids[order]), whole[order])
    assert torch.equal(augmenter(images[40:53], policy=BUSY, **KEY, ids=ids[40:53]), whole[40:53])
    threaded = BatchAugmenter(MEAN, STD, cutout=5, threads=4)
    assert torch.equal(threaded(images, policy=BUSY, **KEY, ids=ids), whole)
    copied = pickle.loads(pickle.dumps(threaded))
    assert torch.equal(copied(images, policy=BUSY, **KEY, ids=ids), whole)
    assert not torch.equal(augmenter(images, policy=BUSY, seed=3, epoch=8, ids=ids), whole)


def test_crop_reaches_every_offset_and_half_is_flipped():
    """Of an image whose every pixel differs, the offset and the flip can be read off."""
    n, side, crop = 6000, 8, 2
    image = (
        torch.arange(1, side * side + 1, dtype=torch.uint8).reshape(1, side, side, 1).expand(1, side, side, 3)
    )
    augmenter = BatchAugmenter((0.0,) * 3, (1 / 255,) * 3, crop=crop)
    batch = augmenter(image, index=torch.zeros(n, dtype=torch.int64), policy=None, **KEY, ids=torch.arange(n))
    values = batch[:, 0].round().long()
    flipped = values[:, 3, 3] > values[:, 3, 4]
    upright = torch.where(flipped[:, None, None], values.flip(-1), values)
    padded = torch.nn.functional.pad(image[0, ..., 0].long(), (crop,) * 4)
    counts = torch.zeros(2 * crop + 1, 2 * crop + 1)
    for down in range(2 * crop + 1):
        for right in range(2 * crop + 1):
            window = padded[down : down + side, right : right + side]
            counts[down, right] = (upright == window).all(dim=-1).all(dim=-1).sum()
    assert counts.sum() == n
    expected = n / counts.numel()
    assert ((counts - expected) ** 2 / expected).sum() < 51.2  # chi-square, 24 degrees, p = 0.001
    assert flipped.float().mean().item() == pytest.approx(0.5, abs=0.025)


def test_cutout_is_a_clipped_square_with_a_uniform_center():
    n, side = 4000, 6
    images = torch.full((1, side, side, 3), 255, dtype=torch.uint8)
    augmenter = BatchAugmenter((0.0,) * 3, (1.0,) * 3, crop=0, flip=False, cutout=4)
    batch = augmenter(
        images, index=torch.zeros(n, dtype=torch.int64), policy=None, **KEY, ids=torch.arange(n)
    )
    assert torch.equal(batch[:, 0], batch[:, 2])
    counts = torch.zeros(side, side)
    for y in range(side):
        for x in range(side):
            expected = torch.ones(side, side)
            expected[max(0, y - 2) : y + 2, max(0, x - 2) : x + 2] = 0
            counts[y, x] = (batch[:, 0] == expected).all(dim=-1).all(dim=-1).sum()
    assert counts.sum() == n
    expected = n / side**2
    assert ((counts - expected) ** 2 / expected).sum() < 66.6  # chi-square, 35 degrees, p = 0.001


def test_no_images():
    augmenter = BatchAugmenter(MEAN, STD)
    assert augmenter(pictures(0), policy=BUSY, **KEY, ids=[]).shape == (0, 3, 12, 10)
    assert normalize(pictures(0), MEAN, STD).shape == (0, 3, 12, 10)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: BatchAugmenter((0.5, 0.5), STD), InputError, "`mean` must be three finite numbers"),
        (
            lambda: BatchAugmenter(MEAN, (1, 1, float("nan"))),
            InputError,
            "`std` must be three finite numbers",
        ),
        (lambda: BatchAugmenter(MEAN, (1, 0, 1)), InputError, "`std` must be above 0"),
        (lambda: BatchAugmenter(MEAN, STD, crop=-1), InputError, "`crop` must be an integer from 0"),
        (lambda: BatchAugmenter(MEAN, STD, cutout=1.5), InputTypeError, "`cutout` must be an integer"),
    ],
)
def test_bad_settings(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"ids": torch.arange(3)}, InputError, r"`ids` must hold one integer per image, shape \(50,\)"),
        (
            {"index": torch.tensor([0, 50]), "ids": [0, 1]},
            InputError,
            r"`index` must lie within 0..49, got 0..50",
        ),
        ({"index": torch.tensor([-1]), "ids": [0]}, InputError, r"got -1..-1"),
        ({"dtype": torch.float16}, InputTypeError, "`dtype` must be torch.float32 or torch.bfloat16"),
        ({"out": torch.empty(50, 3, 12, 9)}, InputError, r"`out` must be a contiguous .* \(50, 3, 12, 10\)"),
        (
            {"out": torch.empty(50, 3, 12, 10), "channels_last": True},
            InputError,
            "`out` must be a channels_last",
        ),
        ({"out": torch.empty(50, 3, 12, 10, dtype=torch.bfloat16)}, InputError, "got torch.bfloat16"),
        (
            {"out": torch.empty(50, 3, 12, 10, device="meta")},
            InputError,
            "`out` must lie in the memory of the CPU",
        ),
        ({"epoch": "1"}, InputTypeError, "`epoch` must be an integer, got '1'"),
    ],
)
def test_bad_calls(options, kind, words):
    arguments = {"policy": None, **KEY, "ids": torch.arange(50), **options}
    with pytest.raises(kind, match=words):
        BatchAugmenter(MEAN, STD)(pictures(), **arguments)


def test_inputs_stay_as_they_are():
    images, ids = pictures(), torch.arange(50)
    before = images.clone()
    BatchAugmenter(MEAN, STD, cutout=3)(images, policy=BUSY, **KEY, ids=ids)
    normalize(images.numpy(), MEAN, STD)
    assert torch.equal(images, before)
    assert np.array_equal(ids.numpy(), np.arange(50))
