"""Networks trained on real images for a few seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from trained_networks import Trained, normalised, trained

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
    train, test = normalised(data.train, data.train), normalised(data.test, data.train)
    everything = torch.cat([train, test]), torch.cat([data.train.labels, data.test.labels])
    return trained("digits", "cnn-tiny", (train, data.train.labels), everything, epochs=8)


@pytest.fixture(scope="session")
def cifar10(cifar10_root: Path) -> Trained:
    """`resnet8-small` on 960 training images of CIFAR-10; measured on 1,000 test images."""
    data = load_data("cifar10", cifar10_root)
    train, test = data.train.subset(torch.arange(960)), data.test.subset(torch.arange(1000))
    pair = normalised(train, train), train.labels
    return trained("cifar10", "resnet8-small", pair, (normalised(test, train), test.labels), epochs=4)
