"""ShuffleNet V1 and V2 for small images.

Source: Zhang et al., CVPR 2018, and Ma et al., ECCV 2018, in the form of the CIFAR distillation literature (Tian et
al., ICLR 2020): stem a 1x1 convolution of 24 channels without pooling, three stages, each halving the size.
"""

import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from rolewise._types import Logits
from rolewise.networks.base import Maps, Network, make

_STEM = 24


def shuffle(x: Maps, groups: int) -> Maps:
    """Takes the channels in turn from each of `groups` equal groups."""
    _, channels, height, width = x.shape
    grouped = x.reshape(-1, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(-1, channels, height, width)


def _conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False)


def _depthwise(width: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)


class GroupedBlock(nn.Module):
    """V1: grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; strided blocks append the pooled input's channels.

    `act_in` quantizes the block's input, `act1` and `act2` follow the first two BatchNorms; `pre_relu` is the block's
    output before its ReLU, for losses that compare maps there.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        own = outputs - inputs if stride == 2 else outputs
        middle = own // 4
        self.groups = 1 if inputs == _STEM else groups  # 24 channels are too few to be grouped
        self.act_in = nn.Identity()
        self.conv1 = _conv(inputs, middle, self.groups)
        self.bn1, self.act1 = nn.BatchNorm2d(middle), nn.ReLU()
        self.conv2 = _depthwise(middle, stride)
        self.bn2, self.act2 = nn.BatchNorm2d(middle), nn.ReLU()
        self.conv3 = _conv(middle, own, groups)
        self.bn3 = nn.BatchNorm2d(own)
        self.pre_relu = nn.Identity()
        self.stride = stride

    def forward(self, x: Maps) -> Maps:
        x = self.act_in(x)
        output = shuffle(self.act1(self.bn1(self.conv1(x))), self.groups)
        output = self.bn3(self.conv3(self.act2(self.bn2(self.conv2(output)))))
        output = torch.cat([output, avg_pool2d(x, 3, 2, padding=1)], 1) if self.stride == 2 else output + x
        return torch.relu(self.pre_relu(output))


class ShuffleNetV1(Network):
    """Stem, `layer1` to `layer3`, global average pool, classifier `fc`; three groups."""

    taps = ("layer1", "layer2", "layer3")
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _conv(3, _STEM)
        self.bn1, self.act = nn.BatchNorm2d(_STEM), nn.ReLU()
        inputs, points = _STEM, []
        for name, outputs, count in zip(self.taps, (240, 480, 960), (4, 8, 4), strict=True):
            layers = []
            for index in range(count):
                layers.append(GroupedBlock(inputs, outputs, 2 if index == 0 else 1, groups=3))
                points += [f"{name}.{index}.{act}" for act in ("act_in", "act1", "act2")]
                inputs = outputs
            self.add_module(name, nn.Sequential(*layers))
        self.act_points = tuple(points)
        self.pre_activation_taps = ("layer1.3.pre_relu", "layer2.7.pre_relu", "layer3.3.pre_relu")
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Maps) -> Logits:
        x = self.act(self.bn1(self.conv1(x)))
        return self.logits(self.layer3(self.layer2(self.layer1(x))))


class SplitBlock(nn.Module):
    """V2: half of the channels pass by, the other half go through 1x1, depthwise 3x3, 1x1; then they are shuffled.

    `act_in` quantizes the block's input, `act` follows the first BatchNorm; what comes out of the depthwise
    convolution is signed and stays float. `pre_relu` joins what passes by and the other half before its ReLU, for
    losses that compare maps there; the network itself does not use it.
    """

    def __init__(self, channels: int, *, joins: bool = False) -> None:
        super().__init__()
        half = channels // 2
        self.joins = joins  # whether `pre_relu` is fed: the last block of a stage
        self.act_in = nn.Identity()
        self.conv1 = _conv(half, half)
        self.bn1, self.act = nn.BatchNorm2d(half), nn.ReLU()
        self.conv2 = _depthwise(half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = _conv(half, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.pre_relu = nn.Identity()

    def forward(self, x: Maps) -> Maps:
        passed, x = self.act_in(x).chunk(2, 1)
        x = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        x = self.bn3(self.conv3(x))
        if self.joins:
            self.pre_relu(torch.cat([passed, x], 1))
        return shuffle(torch.cat([passed, torch.relu(x)], 1), 2)


class DownBlock(nn.Module):
    """V2: halves the size in two branches, which are joined and shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.act_in = nn.Identity()
        self.conv1 = _depthwise(inputs, 2)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = _conv(inputs, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = _conv(inputs, half)
        self.bn3, self.act = nn.BatchNorm2d(half), nn.ReLU()
        self.conv4 = _depthwise(half, 2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = _conv(half, half)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Maps) -> Maps:
        x = self.act_in(x)
        left = torch.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(self.act(self.bn3(self.conv3(x)))))
        right = torch.relu(self.bn5(self.conv5(right)))
        return shuffle(torch.cat([left, right], 1), 2)


class ShuffleNetV2(Network):
    """Stem, `layer1` to `layer3`, 1x1 convolution, global average pool, classifier `fc`."""

    taps = ("layer1", "layer2", "layer3")
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _conv(3, _STEM)
        self.bn1, self.act1 = nn.BatchNorm2d(_STEM), nn.ReLU()
        inputs, points = _STEM, []
        for name, outputs, count in zip(self.taps, (116, 232, 464), (3, 7, 3), strict=True):
            split = [SplitBlock(outputs, joins=index == count - 1) for index in range(count)]
            layers = [DownBlock(inputs, outputs), *split]
            points += [f"{name}.{index}.{act}" for index in range(count + 1) for act in ("act_in", "act")]
            inputs = outputs
            self.add_module(name, nn.Sequential(*layers))
        self.act_in = nn.Identity()
        self.act_points = (*points, "act_in")
        self.embedding_taps = (*self.taps[:-1], "act2")
        self.pre_activation_taps = ("layer1.3.pre_relu", "layer2.7.pre_relu", "layer3.3.pre_relu")
        self.conv2 = _conv(inputs, 1024)
        self.bn2, self.act2 = nn.BatchNorm2d(1024), nn.ReLU()
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x: Maps) -> Logits:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act_in(self.layer3(self.layer2(self.layer1(x))))
        return self.logits(self.act2(self.bn2(self.conv2(x))))


def shufflenetv1(num_classes: int = 10, *, seed: int = 0) -> Network:
    """240, 480, 960 channels, three groups; 0.95 M parameters (100 classes)."""
    return make("shufflenetv1", lambda: ShuffleNetV1(num_classes), num_classes, seed)


def shufflenetv2(num_classes: int = 10, *, seed: int = 0) -> Network:
    """116, 232, 464 channels; 1.36 M parameters (100 classes)."""
    return make("shufflenetv2", lambda: ShuffleNetV2(num_classes), num_classes, seed)
