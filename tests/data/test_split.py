"""Splits and data sets in memory."""

import dataclasses
import inspect
import pickle

import numpy as np
import pytest
import torch

from rolewise.data import Data, Split, channel_statistics, load_data
from rolewise.errors import InputError, InputTypeError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)


def make(n: int = 40, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, 3, n))
    return Split(images, labels, torch.arange(n), ("a", "b", "c"), MEAN, STD)


class CountingTest:
    """A reader of the test part that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Split:
        self.calls += 1
        return make(7, seed=1)


def test_a_split_says_what_it_is() -> None:
    split = make()
    assert len(split) == 40
    assert split.num_classes == 3
    assert split.image_size == (4, 5)


def test_a_subset_keeps_ids_and_constants() -> None:
    split = make()
    part = split.subset(torch.tensor([5, 2, 39]))
    assert part.ids.tolist() == [5, 2, 39]
    assert torch.equal(part.images[2], split.images[39])
    assert part.labels.tolist() == [int(split.labels[i]) for i in (5, 2, 39)]
    assert (part.mean, part.std, part.classes) == (MEAN, STD, split.classes)
    assert part.subset(torch.tensor([1])).ids.tolist() == [2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ("a", "b")}, "`labels` must lie in 0..1 (the classes), got 0..2."),
        ({"labels": torch.full((40,), -1)}, "`labels` must lie in 0..2 (the classes), got -1..-1."),
        ({"std": (0.1, 0.0, 0.1)}, "`mean` must be finite and `std` positive, got"),
        ({"mean": (float("nan"), 0.0, 0.1)}, "`mean` must be finite and `std` positive, got"),
    ],
)
def test_a_split_refuses_what_cannot_be_trained_on(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        dataclasses.replace(make(), **change)
    assert words in str(caught.value)


def test_a_split_refuses_no_images() -> None:
    with pytest.raises(
        InputError,
        match=r"uint8 \(n, h, w, 3\) or \(n, h, w, 1\), none of them 0, got",
    ):
        make().subset(torch.tensor([], dtype=torch.int64))


def test_statistics_are_those_of_numpy_in_float64() -> None:
    images = make(200).images
    mean, std = channel_statistics(images)
    pixels = images.numpy().astype(np.float64) / 255
    assert mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)
    assert std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-10)


def test_a_channel_of_one_value_has_standard_deviation_one() -> None:
    images = make().images.clone()
    images[..., 1] = 51
    mean, std = channel_statistics(images)
    assert mean[1] == 0.2
    assert std[1] == 1.0
    assert std[0] != 1.0


def test_the_test_part_is_read_once_and_late() -> None:
    read = CountingTest()
    data = Data("mine", make(), read)
    data.reduced(10, 5)
    data.fingerprint()
    assert read.calls == 0
    assert len(data.test) == 7
    assert data.test is data.test
    assert read.calls == 1


def test_reduced_is_the_published_shuffle() -> None:
    data = Data("mine", make(200), CountingTest())
    train, validation = data.reduced(30, 50)
    order = np.random.RandomState(0).permutation(200)
    assert train.ids.tolist() == order[:30].tolist()
    assert validation.ids.tolist() == order[30:80].tolist()
    assert torch.equal(train.images, data.train.images[torch.from_numpy(order[:30])])
    assert torch.equal(validation.labels, data.train.labels[torch.from_numpy(order[30:80])])
    assert [len(split) for split in data.reduced()] == [20, 100]  # 10 % and 50 %
    assert [len(split) for split in data.reduced(train=7)] == [7, 100]


def test_reduced_splits_are_normalized_as_their_training_part() -> None:
    constants = {30: ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))}
    data = Data("mine", make(200), CountingTest(), constants=constants)
    train, validation = data.reduced(30, 50)
    assert (train.mean, train.std) == constants[30] == (validation.mean, validation.std)
    train, validation = data.reduced(31, 50)
    pixels = train.images.numpy().astype(np.float64) / 255
    assert train.mean == validation.mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((0, 5), "`train` must be an integer at least 1, got 0."),
        ((5, -1), "`validation` must be an integer at least 1, got -1."),
        ((150, 51), "`train` + `validation` must be at most 200, the training images of mine, got 150 + 51."),
    ],
)
def test_reduced_refuses_impossible_numbers(sizes: tuple[int, int], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Data("mine", make(200), CountingTest()).reduced(*sizes)
    assert words in str(caught.value)


def test_reduced_refuses_what_is_no_integer() -> None:
    with pytest.raises(InputTypeError, match="`train` must be an integer at least 1, got True"):
        Data("mine", make(), CountingTest()).reduced(True, 3)


def test_the_fingerprint_is_of_images_and_labels() -> None:
    def of(split: Split) -> str:
        return Data("mine", split, CountingTest()).fingerprint()

    split = make()
    images, labels = split.images.clone(), split.labels.clone()
    images[3, 2, 1, 0] += 1
    labels[0] = (labels[0] + 1) % 3
    prints = {
        of(split),
        of(dataclasses.replace(split, images=images)),
        of(dataclasses.replace(split, labels=labels)),
        of(dataclasses.replace(split, images=split.images.reshape(40, 5, 4, 3))),
    }
    assert len(prints) == 4
    assert of(split) == of(make())
    assert len(of(split)) == 64


def test_data_sets_survive_pickling_for_worker_processes() -> None:
    data = pickle.dumps(load_data("digits"))  # only written: the project reads no pickles
    assert b"digits" in data


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        load_data("cifar-10")
    assert str(caught.value) == (
        'Unknown data set "cifar-10". Known: "digits", "cifar10", "cifar100", "folder". Did you mean "cifar10"? '
        'A data set of your own is given as "FILE.py:function", or as a folder of images with the name "folder".'
    )


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "folder"])
def test_a_missing_root_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"`root` is missing: .* \(command line: --data-root DIR\)"):
        load_data(name)


def test_options_of_folders_are_refused_elsewhere() -> None:
    with pytest.raises(InputError, match='`size` is for "folder" alone; Digits does not take it, got 64'):
        load_data("digits", size=64)
    with pytest.raises(InputError, match='`skip_bad` is for "folder" alone'):
        load_data("cifar10", "x", skip_bad=True)
    with pytest.raises(InputTypeError, match="`root` must be a path, got 3"):
        inspect.unwrap(load_data)("cifar10", 3)  # type: ignore[arg-type]  # unwrapped: without the tests' own check


def test_limited_trains_on_the_images_of_the_search() -> None:
    whole = Data("some", make(), CountingTest())
    limited = whole.limited(10)
    searched, held_out = whole.reduced(10, 20)
    assert torch.equal(limited.train.ids, searched.ids)
    assert limited.train.mean == searched.mean
    # The division is that of all images still, so that held-out images were never trained on.
    again, held_out_again = limited.reduced(10, 20)
    assert torch.equal(again.ids, searched.ids)
    assert torch.equal(held_out_again.ids, held_out.ids)
    assert not set(held_out.ids.tolist()) & set(limited.train.ids.tolist())


def test_limited_reads_the_test_part_only_when_it_is_asked_for() -> None:
    reader = CountingTest()
    limited = Data("some", make(), reader).limited(test=3)
    assert reader.calls == 0
    assert torch.equal(limited.test.images, make(7, seed=1).images[:3])
    assert len(limited.train) == 40
    assert reader.calls == 1


def test_limits_out_of_range_are_refused() -> None:
    data = Data("some", make(), CountingTest())
    with pytest.raises(InputError, match="`train` must be an integer from 1 to 40, got 41"):
        data.limited(41)
    with pytest.raises(InputError, match="`test` must be an integer at least 1, got 0"):
        data.limited(test=0)
    with pytest.raises(InputError, match="`test` must be at most 7, the test images of some, got 8"):
        _ = data.limited(test=8).test
