"""VGG networks for small images, one linear layer behind global average pooling.

Source: Simonyan and Zisserman, ICLR 2015, in the form of the CIFAR distillation literature (Tian et al., ICLR 2020):
convolutions with bias, BatchNorm, no pooling before the last stage (but for images of 64 pixels or more).
"""

from collections.abc import Sequence
from functools import partial

from torch import nn
from torch.nn.functional import max_pool2d

from rolewise._types import Logits
from rolewise.networks.base import Maps, Network, make

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(Network):
    """Five stages of convolution, BatchNorm, ReLU; the last ReLU, which feeds the classifier, stays float."""

    def __init__(self, convolutions: Sequence[int], num_classes: int) -> None:
        super().__init__()
        inputs, acts, ends = 3, [], []
        for stage, (count, width) in enumerate(zip(convolutions, _WIDTHS, strict=True)):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                acts.append(f"stage{stage}.{len(layers) - 1}")
                inputs = width
            ends.append(acts[-1])
            self.add_module(f"stage{stage}", nn.Sequential(*layers))
        self.taps, self.act_points = tuple(ends[1:]), tuple(acts[:-1])
        self.pre_activation_taps = tuple(_before(name) for name in self.taps)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Maps) -> Logits:
        large = x.shape[2] >= 64
        for stage in range(len(_WIDTHS)):
            x = getattr(self, f"stage{stage}")(x)
            if stage < 3 or (stage == 3 and large):
                x = max_pool2d(x, 2)
        return self.logits(x)


def _before(relu: str) -> str:
    """The BatchNorm before a ReLU of a stage."""
    stage, _, index = relu.partition(".")
    return f"{stage}.{int(index) - 1}"


def vgg8(num_classes: int = 10, *, seed: int = 0) -> Network:
    """One convolution in each of five stages; 3.97 M parameters (100 classes)."""
    return make("vgg8", partial(VGG, (1, 1, 1, 1, 1), num_classes), num_classes, seed)


def vgg13(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Two convolutions in each of five stages; 9.46 M parameters (100 classes)."""
    return make("vgg13", partial(VGG, (2, 2, 2, 2, 2), num_classes), num_classes, seed)
