"""Wide ResNets: pre-activation blocks, BatchNorm and ReLU before each convolution.

Source: Zagoruyko and Komodakis, BMVC 2016, in the form of the CIFAR distillation literature (Tian et al., ICLR 2020):
no dropout; where the width changes, the shortcut is a 1x1 convolution of the activated input.
"""

from functools import partial

from torch import nn

from rolewise._types import Logits
from rolewise.networks.base import Maps, Network, make
from rolewise.networks.resnet import conv3x3


class WideBlock(nn.Module):
    """A pre-activation block. Only what the convolutions read is quantized, never the residual stream itself."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.act1 = nn.BatchNorm2d(inputs), nn.ReLU()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn2, self.act2 = nn.BatchNorm2d(width), nn.ReLU()
        self.conv2 = conv3x3(width, width)
        self.shortcut: nn.Conv2d | None = None
        if inputs != width:
            self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x: Maps) -> Maps:
        activated = self.act1(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        output: Maps = shortcut + self.conv2(self.act2(self.bn2(self.conv1(activated))))
        return output


class WideResNet(Network):
    """Stem, `layer1` to `layer3`, BatchNorm, ReLU, global average pool, classifier `fc`.

    Args:
        depth: 6n + 4, n the blocks of a stage.
        widen: factor of the widths 16, 32, 64.
        num_classes: outputs of `fc`.
    """

    taps = ("layer1", "layer2", "layer3")
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, depth: int, widen: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, 16)
        inputs, points = 16, []
        for name, width in zip(self.taps, (16 * widen, 32 * widen, 64 * widen), strict=True):
            layers = []
            for index in range((depth - 4) // 6):
                layers.append(WideBlock(inputs, width, 2 if index == 0 and name != "layer1" else 1))
                points += [f"{name}.{index}.act1", f"{name}.{index}.act2"]
                inputs = width
            self.add_module(name, nn.Sequential(*layers))
        self.act_points = tuple(points)
        # A stage's map meets the BatchNorm and the ReLU of what follows; the classifier averages the last of these.
        self.embedding_taps = (*self.taps[:-1], "act")
        self.pre_activation_taps = ("layer2.0.bn1", "layer3.0.bn1", "bn")
        self.bn, self.act = nn.BatchNorm2d(inputs), nn.ReLU()
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Maps) -> Logits:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.logits(self.act(self.bn(x)))


def wrn_16_2(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Depth 16, twice as wide; 0.70 M parameters (100 classes)."""
    return make("wrn-16-2", partial(WideResNet, 16, 2, num_classes), num_classes, seed)


def wrn_40_2(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Depth 40, twice as wide; 2.26 M parameters (100 classes)."""
    return make("wrn-40-2", partial(WideResNet, 40, 2, num_classes), num_classes, seed)
