"""The digits that ship with the package."""

import hashlib
import io
from importlib import resources

import numpy as np
import pytest
import torch
from make_digits import division
from PIL import Image

from rolewise.data import load_data
from rolewise.data.digits import enlarge

# SHA-256 of the published table (`digits.csv`, unpacked, as in scikit-learn 1.9's wheel).
TABLE = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    raw = resources.files("rolewise.data").joinpath("digits.npz").read_bytes()
    assert len(raw) < 60_000
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        return dict(arrays)


def test_the_images_are_the_published_ones(stored: dict[str, np.ndarray]) -> None:
    table = np.hstack([stored["images"].reshape(-1, 64), stored["labels"][:, None]])
    text = "".join(",".join(map(str, row)) + "\n" for row in table.tolist())
    assert hashlib.sha256(text.encode()).hexdigest() == TABLE


def test_the_division_follows_its_rule(stored: dict[str, np.ndarray]) -> None:
    train, test = division(stored["labels"])
    assert np.array_equal(stored["train"], train)
    assert np.array_equal(stored["test"], test)
    assert sorted([*train, *test]) == list(range(1797))


def test_the_parts_are_disjoint_and_balanced(stored: dict[str, np.ndarray]) -> None:
    data = load_data("digits")
    search, validation = data.reduced()
    assert (len(data.train), len(data.test), len(search), len(validation)) == (1437, 360, 1077, 360)
    assert not set(search.ids.tolist()) & set(validation.ids.tolist())
    assert data.test.labels.bincount().tolist() == validation.labels.bincount().tolist() == [36] * 10
    whole = np.bincount(stored["labels"])
    assert search.labels.bincount().tolist() == (whole - 72).tolist()
    few = data.reduced(200, 100)[0].labels.bincount()  # any first part is balanced
    assert 18 <= few.min() <= few.max() <= 22


def test_images_and_labels_stay_together(stored: dict[str, np.ndarray]) -> None:
    data = load_data("digits")
    for split, part in ((data.train, stored["train"]), (data.test, stored["test"])):
        assert split.labels.tolist() == stored["labels"][part].tolist()
        middle = split.images[:, 13:19:4, 13:19:4, 0].numpy().astype(int)
        source = stored["images"][part][:, 3:5, 3:5].astype(int) * 255 / 16
        assert np.abs(middle - source).max() < 80  # the middle of a pixel is close to it
        assert split.ids.tolist() == list(range(len(part)))
    assert data.classes == tuple("0123456789")


def test_enlarging_is_pillows_bilinear_within_one_level(stored: dict[str, np.ndarray]) -> None:
    images = stored["images"]
    ours = enlarge(images)
    assert ours.shape == (1797, 32, 32, 3)
    assert ours.dtype == np.uint8
    assert (ours == ours[..., :1]).all()
    gray = np.floor(images * (255 / 16) + 0.5).astype(np.uint8)
    worst = max(
        np.abs(
            np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
            - mine[..., 0]
        ).max()
        for image, mine in zip(gray, ours, strict=True)
    )
    assert worst <= 1


def test_enlarging_is_the_formula_rounded_half_up(stored: dict[str, np.ndarray]) -> None:
    image = stored["images"][7].astype(np.float64)
    ours = enlarge(stored["images"][7:8])[0, ..., 0]
    for y in range(32):
        for x in range(32):
            v, u = (y + 0.5) / 4 - 0.5, (x + 0.5) / 4 - 0.5
            y0, x0 = int(np.floor(v)), int(np.floor(u))
            value = 0.0
            for row, wy in ((y0, 1 - (v - y0)), (y0 + 1, v - y0)):
                for column, wx in ((x0, 1 - (u - x0)), (x0 + 1, u - x0)):
                    value += wy * wx * image[min(max(row, 0), 7), min(max(column, 0), 7)]
            assert ours[y, x] == np.floor(value * 255 / 16 + 0.5)


def test_white_stays_white_and_black_black() -> None:
    assert (enlarge(np.full((1, 8, 8), 16, np.uint8)) == 255).all()
    assert (enlarge(np.zeros((1, 8, 8), np.uint8)) == 0).all()


def test_constants_are_those_of_the_training_images() -> None:
    data = load_data("digits")
    pixels = data.train.images.numpy().astype(np.float64) / 255
    assert data.train.mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)
    assert data.train.std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-10)
    assert (data.test.mean, data.test.std) == (data.train.mean, data.train.std)


def test_two_loads_are_the_same() -> None:
    first, second = load_data("digits"), load_data("digits")
    assert first.fingerprint() == second.fingerprint()
    assert torch.equal(first.test.images, second.test.images)
