"""A network and images so small that a test trains for some steps in no time."""

import torch

from rolewise import networks
from rolewise.data import Split


def network(seed):
    model = networks.build("cnn-tiny", num_classes=10)
    model.reset(torch.Generator().manual_seed(seed))
    return model


def split(n=64):
    """Noise with random labels."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (n, 32, 32, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (n,), generator=generator)
    classes = tuple(map(str, range(10)))
    return Split(images, labels, torch.arange(n), classes, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
