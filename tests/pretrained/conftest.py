"""Networks trained on real images for a few seconds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trained_networks import Trained, normalized, small_alexnet, trained

from rolewise.data import load_data


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bytes depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def digits() -> Trained:
    """`cnn-tiny` on the digits of the package; measured on all 1,797, for there are only 360 test images."""
    data = load_data("digits")
    train, test = normalized(data.train, data.train), normalized(data.test, data.train)
    everything = torch.cat([train, test]), torch.cat([data.train.labels, data.test.labels])
    return trained("digits", "cnn-tiny", (train, data.train.labels), everything, epochs=8)


@pytest.fixture(scope="session")
def cifar10(cifar10_root: Path) -> Trained:
    """`resnet8-small` on 960 training images of CIFAR-10; measured on 1,000 test images."""
    data = load_data("cifar10", cifar10_root)
    train, test = data.train.subset(torch.arange(960)), data.test.subset(torch.arange(1000))
    pair = normalized(train, train), train.labels
    return trained("cifar10", "resnet8-small", pair, (normalized(test, train), test.labels), epochs=4)


@pytest.fixture(scope="session")
def cifar10_2000(cifar10_root: Path, cifar10: Trained) -> Trained:
    """The students of `cifar10` with 2,000 test images."""
    return _with_test_images(cifar10, cifar10_root, 2000)


@pytest.fixture(scope="session")
def cifar10_alexnet(cifar10_root: Path) -> Trained:
    """A small AlexNet on 1,920 training images of CIFAR-10, with 2,000 test images."""
    train = load_data("cifar10", cifar10_root).train.subset(torch.arange(1920))
    pair = normalized(train, train), train.labels
    one = trained("cifar10-alexnet", small_alexnet(10), pair, pair, epochs=6)
    return _with_test_images(one, cifar10_root, 2000, constants=1920)


def _with_test_images(one: Trained, root: Path, count: int, constants: int = 960) -> Trained:
    data = load_data("cifar10", root)
    train, test = data.train.subset(torch.arange(constants)), data.test.subset(torch.arange(count))
    return replace(one, images=normalized(test, train), labels=test.labels)
