"""ResNets for small images: the paper's ResNet18 and ResNet8, those of He et al.'s CIFAR section, small ones
for CPUs.

Source: He et al., CVPR 2016; stem 3x3, stride 1, no max-pool; projection shortcuts (1x1 convolution and
    BatchNorm)
where stride or width change. The paper's "ResNet8" has one block per stage, ten weight layers on its main
path, and counts only the convolutions of the blocks.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from rolewise._types import FeatureMap, Logits
from rolewise.networks.base import Network, make

# Of the role-wise authors' code: running averages move by 1 % a batch.
BN_EPS = 1e-3
BN_MOMENTUM = 0.01
# PyTorch's: the small networks are trained for a few hundred steps, too few for averages that move by 1 %.
SMALL_BN_MOMENTUM = 0.1


def batch_norm(width: int) -> nn.BatchNorm2d:
    """BatchNorm as the role-wise paper's networks have it."""
    return nn.BatchNorm2d(width, eps=BN_EPS, momentum=BN_MOMENTUM)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias; strided ones start one pixel earlier than under TensorFlow's "SAME"."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, from the quantized block input on.

    `act_in` is where a low-bit network quantizes the block's input, which feeds the first convolution and the
    shortcut alike; `act` follows the first BatchNorm. The output is a plain ReLU, quantized by the next
    block.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.act_in = nn.Identity()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = batch_norm(width)
        self.act = nn.ReLU()
        self.conv2 = conv3x3(width, width)
        self.bn2 = batch_norm(width)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), batch_norm(width))

    def forward(self, x: FeatureMap) -> Tensor:
        x = self.act_in(x)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x = self.act(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(Network):
    """Stem, stages `layer1`, `layer2`, ..., global average pool, classifier `fc`.

    Args:
        blocks: number of blocks of each stage.
        widths: channels of each stage.
        stem: channels of the stem.
        num_classes: outputs of `fc`.
        bn_momentum: how far BatchNorm's running averages move with each batch, a fraction.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        stem: int,
        num_classes: int,
        bn_momentum: float = BN_MOMENTUM,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, stem)
        self.bn1 = batch_norm(stem)
        self.act = nn.ReLU()
        self.taps = tuple(f"layer{stage}" for stage in range(1, len(blocks) + 1))
        inputs, points = stem, []
        for stage, (name, count, width) in enumerate(zip(self.taps, blocks, widths, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            layers = []
            for index, stride in enumerate(strides):
                layers.append(BasicBlock(inputs, width, stride))
                points += [f"{name}.{index}.act_in", f"{name}.{index}.act"]
                inputs = width
            self.add_module(name, nn.Sequential(*layers))
        self.act_points = tuple(points)
        self.fc = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = bn_momentum

    def forward(self, x: FeatureMap) -> Logits:
        x = self.act(self.bn1(self.conv1(x)))
        for name in self.taps:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def _resnet(
    name: str,
    blocks: Sequence[int],
    widths: Sequence[int],
    stem: int,
    num_classes: int,
    seed: int,
    bn_momentum: float = BN_MOMENTUM,
) -> Network:
    construct = partial(ResNet, blocks, widths, stem, num_classes, bn_momentum)
    return make(name, construct, num_classes, seed)


def resnet18(num_classes: int = 10, *, seed: int = 0) -> Network:
    """The paper's ResNet18: two blocks in each of four stages of 64, 128, 256, 512 channels."""
    return _resnet("resnet18", (2, 2, 2, 2), (64, 128, 256, 512), 64, num_classes, seed)


def resnet8(num_classes: int = 10, *, seed: int = 0) -> Network:
    """The paper's ResNet8: as ResNet18 with one block in each stage."""
    return _resnet("resnet8", (1, 1, 1, 1), (64, 128, 256, 512), 64, num_classes, seed)


def resnet8_small(num_classes: int = 10, *, seed: int = 0) -> Network:
    """A narrow ResNet8 for CPUs: one block in each of three stages of 16, 32, 64 channels, 0.08 M parameters."""
    return _resnet("resnet8-small", (1, 1, 1), (16, 32, 64), 16, num_classes, seed, SMALL_BN_MOMENTUM)


def cnn_tiny(num_classes: int = 10, *, seed: int = 0) -> Network:
    """The demo's network, 0.02 M parameters: learns 32x32 digits in seconds on one core."""
    return _resnet("cnn-tiny", (1, 1, 1), (8, 16, 32), 8, num_classes, seed, SMALL_BN_MOMENTUM)
