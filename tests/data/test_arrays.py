"""`Data.from_arrays` and `Data.from_dataset`: every form gives the same split; what cannot be is said."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from rolewise.data import Data
from rolewise.errors import InputError, InputTypeError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, 7, 9, 3), dtype=np.uint8)
GRAY = IMAGES[..., :1].copy()
LABELS = np.arange(24) % 4
TEST = (IMAGES[:8], LABELS[:8])


def split_of(images, labels=LABELS):
    return Data.from_arrays((images, labels), (images, labels)).train


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        torch.from_numpy(IMAGES),
        IMAGES.transpose(0, 3, 1, 2),
        torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous(),
        IMAGES / 255,
        (IMAGES / 255).astype(np.float32),
        torch.from_numpy(IMAGES).float() / 255,
        torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255,
        np.ascontiguousarray(IMAGES[:, ::-1])[:, ::-1],
        (IMAGES / 255).astype(">f4"),
    ],
)
def test_every_form_of_rgb_gives_the_same_bytes(images):
    assert np.array_equal(split_of(images).images.numpy(), IMAGES)


@pytest.mark.parametrize(
    "images", [GRAY, GRAY[..., 0], GRAY.transpose(0, 3, 1, 2), torch.from_numpy(GRAY[..., 0]) / 255]
)
def test_every_form_of_gray_gives_one_channel(images):
    split = split_of(images)
    assert np.array_equal(split.images.numpy(), GRAY)
    assert split.channels == len(split.mean) == 1


def test_floats_are_rounded_half_up():
    values = np.array([0, 0.4, 0.5, 0.6, 254.49, 254.5, 255]) / 255
    images = np.zeros((24, 7, 9))
    images[0, :, 0] = values
    assert split_of(images).images[0, :, 0, 0].tolist() == [0, 0, 1, 1, 254, 255, 255]


def test_constants_classes_and_words():
    data = Data.from_arrays((IMAGES, LABELS), TEST, ["a", "b", "c", "d"], name="mine")
    scaled = IMAGES.reshape(-1, 3).astype(np.float64) / 255
    assert data.train.mean == pytest.approx(scaled.mean(0), abs=1e-12)
    assert data.train.std == pytest.approx(scaled.std(0), abs=1e-12)
    assert data.test.mean == data.train.mean
    assert repr(data.train) == "Split(24 RGB images, 7 x 9, 4 classes)"
    assert "\n" not in repr(data)
    assert split_of(IMAGES).classes == ("0", "1", "2", "3")
    assert split_of(IMAGES, list(LABELS)).labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (
            lambda: split_of(IMAGES.tolist()),
            InputTypeError,
            "`train images` must be a NumPy array or a",
        ),
        (
            lambda: split_of(IMAGES.astype(np.int64)),
            InputTypeError,
            r"floats within \[0, 1\], got torch.int64",
        ),
        (lambda: split_of(IMAGES.astype(np.uint16)), InputTypeError, "got uint16: divide by 65535"),
        (lambda: split_of(IMAGES.astype(object)), InputTypeError, "got object"),
        (
            lambda: split_of(IMAGES / 1.0),
            InputError,
            "got 0 to 255. Values of 0 to 255: convert them to uint8",
        ),
        (
            lambda: split_of(IMAGES / 255 - 0.5),
            InputError,
            "Normalized ones: give the images as they were before",
        ),
        (
            lambda: split_of(np.full((24, 7, 9), np.nan)),
            InputError,
            r"must lie within \[0, 1\], got nan",
        ),
        (
            lambda: split_of(IMAGES[..., :2]),
            InputError,
            r"with 1 \(gray\) or 3 \(RGB\) channels, none of them 0, got",
        ),
        (lambda: split_of(IMAGES[:0]), InputError, r"got \(0, 7, 9, 3\)"),
        (lambda: split_of(IMAGES, LABELS / 1.0), InputTypeError, "`train labels` must be integers from 0"),
        (lambda: split_of(IMAGES, np.eye(4)[LABELS]), InputError, r"one-hot rows\? Use .argmax\(1\)"),
        (lambda: split_of(IMAGES, LABELS[:9]), InputError, "one integer for each of the 24 images"),
        (lambda: split_of(IMAGES, LABELS - 1), InputError, "`train labels` must be at least 0, got -1"),
        (
            lambda: split_of(IMAGES, LABELS + 1),
            InputError,
            "`train labels` begin at 1, and classes are counted from 0: subtract 1, or name all classes",
        ),
        (lambda: split_of(IMAGES, ["a"] * 24), InputTypeError, "names of classes go into `classes`"),
        (
            lambda: Data.from_arrays(IMAGES, TEST),
            InputTypeError,
            r"`train` must be a pair \(images, labels\)",
        ),
        (lambda: Data.from_arrays((IMAGES, LABELS), TEST, ["a"]), InputError, "at least two different names"),
        (
            lambda: Data.from_arrays((IMAGES, LABELS), TEST, "abcd"),
            InputTypeError,
            "`classes` must be a list",
        ),
        (
            lambda: Data.from_arrays((IMAGES, LABELS), TEST, ["a", "b"]),
            InputError,
            "must lie in 0..1",
        ),
        (
            lambda: Data.from_arrays((IMAGES, LABELS), (IMAGES, LABELS + 1)),
            InputError,
            "`test labels` must lie in 0..3",
        ),
        (
            lambda: Data.from_arrays((IMAGES, LABELS), (GRAY, LABELS)),
            InputError,
            "of the form of `train`, 7 x 9 x 3",
        ),
    ],
)
def test_bad_arrays(act, kind, words):
    with pytest.raises(kind, match=words):
        act()


class Listed(Dataset):
    """A dataset of what it is given; counts how often each item is read."""

    def __init__(self, items, classes=None):
        self.items, self.read = items, [0] * len(items)
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.read[index] += 1
        return self.items[index]


def listed(make, images=IMAGES, **options):
    return Listed([(make(image), int(label)) for image, label in zip(images, LABELS, strict=True)], **options)


@pytest.mark.parametrize(
    "make",
    [
        Image.fromarray,
        lambda image: image,
        lambda image: torch.from_numpy(image).permute(2, 0, 1),
        lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255,
    ],
)
def test_datasets_give_what_arrays_give(make):
    train, test = listed(make), listed(make)
    data = Data.from_dataset(train, test, ["a", "b", "c", "d"])
    assert torch.equal(data.train.images, torch.from_numpy(IMAGES))
    assert data.train.labels.tolist() == LABELS.tolist()
    assert max(train.read) <= 4  # the first ones are looked at before, to see whether they change
    assert train.read[-1] == 1
    assert sum(test.read) == 1  # the first one, for its form
    assert torch.equal(data.test.images, data.train.images)
    assert test.read[-1] == 1


def test_a_tensor_dataset_gray_pictures_and_the_datasets_own_classes():
    tensors = TensorDataset(torch.from_numpy(GRAY).permute(0, 3, 1, 2), torch.from_numpy(LABELS))
    assert np.array_equal(Data.from_dataset(tensors, tensors).train.images.numpy(), GRAY)
    pictures = listed(lambda image: Image.fromarray(image[..., 0]), GRAY, classes=["w", "x", "y", "z"])
    data = Data.from_dataset(pictures, pictures)
    assert data.classes == ("w", "x", "y", "z")
    assert data.train.channels == 1
    assert Data.from_dataset(pictures, pictures, channels=3).train.channels == 3


def test_pictures_of_several_sizes_are_brought_to_one():
    pictures = Listed([(Image.fromarray(IMAGES[0]).resize((10 + k, 12)), k % 2) for k in range(6)])
    data = Data.from_dataset(pictures, pictures, size=8)
    for number, (picture, _) in enumerate(pictures.items):
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        middle = picture.crop((left, top, left + side, top + side)).resize((8, 8), Image.Resampling.BILINEAR)
        assert np.array_equal(data.train.images[number].numpy(), np.array(middle))


def test_decoded_images_in_a_file_are_made_once(tmp_path):
    train = listed(Image.fromarray)
    plain = Data.from_dataset(train, train)
    first = Data.from_dataset(train, train, store=tmp_path / "store")
    train.read = [0] * len(train)
    again = Data.from_dataset(train, train, store=tmp_path / "store")
    assert train.read[-1] == 0
    for data in (first, again):
        assert torch.equal(data.train.images[:], plain.train.images)
        assert data.train.labels.tolist() == plain.train.labels.tolist()
        assert data.train.mean == plain.train.mean
        assert data.fingerprint() == plain.fingerprint()
        assert len(data.test) == 24


class Random(Listed):
    def __getitem__(self, index):
        return RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8), index % 2


@pytest.mark.parametrize(
    ("train", "options", "kind", "words"),
    [
        (
            DataLoader(TensorDataset(torch.zeros(2))),
            {},
            InputTypeError,
            "got a DataLoader: give its `.dataset`",
        ),
        (
            iter([]),
            {},
            InputTypeError,
            r"got list_iterator. One that only iterates: list\(dataset\)",
        ),
        (Listed([]), {}, InputError, "`train` has no items"),
        (
            Listed([{"image": 1, "label": 2}]),
            {},
            InputTypeError,
            r"must be \(image, label\), got dict with",
        ),
        (
            Listed([("a.png", 1)]),
            {},
            InputTypeError,
            "the image of item 0 of `train` must be a PIL image",
        ),
        (
            Listed([(IMAGES[0], "cat")]),
            {},
            InputTypeError,
            "the label of item 0 of `train` must be an integer",
        ),
        (
            Listed([(IMAGES[0], 0), (IMAGES[0, :5], 1)]),
            {},
            InputError,
            "item 1 of `train` is 5 x 9 with 3",
        ),
        (
            Random([0] * 5),
            {},
            InputError,
            "item 0 of `train` differs when it is read twice: the dataset augments",
        ),
        (
            listed(lambda image: torch.from_numpy(image) / 255 - 0.5),
            {},
            InputError,
            "`item 0 of train` holds floats",
        ),
        (listed(Image.fromarray), {"size": 0}, InputError, "`size` must be an integer from 1"),
        (listed(Image.fromarray), {"channels": 2}, InputError, "`channels` must be 3"),
    ],
)
def test_bad_datasets(train, options, kind, words):
    with pytest.raises(kind, match=words):
        Data.from_dataset(train, train, **options)
