"""MobileNetV2 for small images, half as wide.

Source: Sandler et al., CVPR 2018, in the form of the CIFAR distillation literature (Tian et al., ICLR 2020): plain
ReLU, strides 2 in the stem and before stages 3, 4 and 6, which leaves 2x2 of a 32x32 image.
"""

from functools import partial

from torch import nn

from rolewise._types import Logits
from rolewise.networks.base import Maps, Network, make

# Expansion, channels at full width, blocks, stride of the first block.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_LAST = 1280


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection.

    The act points are the two ReLUs. What the expansion reads is signed and stays float: clipped to [0, 1], half of
    it would be lost.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(width), nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(width), nn.ReLU()
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Maps) -> Maps:
        wide = self.act2(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))))
        output: Maps = self.bn3(self.conv3(wide))
        return output + x if self.residual else output


class MobileNetV2(Network):
    """Stem, `layer1` to `layer7`, 1x1 convolution, global average pool, classifier `fc`."""

    taps = ("layer2", "layer3", "layer5", "layer7")
    embedding_taps = (*taps[:-1], "act2")
    pre_activation_taps = taps  # the projections are linear

    def __init__(self, width: float, num_classes: int) -> None:
        super().__init__()
        inputs = int(32 * width)
        self.conv1 = nn.Conv2d(3, inputs, 3, 2, padding=1, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(inputs), nn.ReLU()
        points = []
        for number, (expansion, channels, count, stride) in enumerate(_STAGES, 1):
            outputs = int(channels * width)
            layers = []
            for index in range(count):
                layers.append(InvertedResidual(inputs, outputs, stride if index == 0 else 1, expansion))
                points += [f"layer{number}.{index}.act1", f"layer{number}.{index}.act2"]
                inputs = outputs
            self.add_module(f"layer{number}", nn.Sequential(*layers))
        self.act_points = ("act1", *points)
        self.conv2 = nn.Conv2d(inputs, _LAST, 1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(_LAST), nn.ReLU()
        self.fc = nn.Linear(_LAST, num_classes)

    def forward(self, x: Maps) -> Logits:
        x = self.act1(self.bn1(self.conv1(x)))
        for number in range(1, len(_STAGES) + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.logits(self.act2(self.bn2(self.conv2(x))))


def mobilenetv2(num_classes: int = 10, *, seed: int = 0) -> Network:
    """At half width; 0.81 M parameters (100 classes)."""
    return make("mobilenetv2", partial(MobileNetV2, 0.5, num_classes), num_classes, seed)
