"""ResNets for small images: the paper's two, those of the distillation literature, small ones for CPUs.

Source: He et al., CVPR 2016. Stem 3x3 without max-pool; projection shortcuts (1x1 convolution and BatchNorm) where
stride or width change. The paper's "ResNet8" has one block per stage; its "8" counts the blocks' convolutions alone.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from rolewise._types import Logits
from rolewise.networks.base import Maps, Network, Norm, make, paper_norm


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias; strided ones start one pixel earlier than under TensorFlow's "SAME"."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    `act_in` is where a low-bit network quantizes the block's input, which feeds the first convolution and the
    shortcut alike; `act` follows the first BatchNorm. The output is a plain ReLU, quantized by the next block;
    `pre_relu` is the sum before it, for losses that compare maps there.
    """

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.act_in = nn.Identity()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = norm(width)
        self.act = nn.ReLU()
        self.conv2 = conv3x3(width, width)
        self.bn2 = norm(width)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), norm(width))
        self.pre_relu = nn.Identity()

    def forward(self, x: Maps) -> Maps:
        x = self.act_in(x)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x = self.act(self.bn1(self.conv1(x)))
        return torch.relu(self.pre_relu(self.bn2(self.conv2(x)) + shortcut))


class ResNet(Network):
    """Stem, stages `layer1`, `layer2`, ..., global average pool, classifier `fc`.

    Args:
        blocks: number of blocks of each stage.
        widths: channels of each stage; all stages but the first halve the size.
        stem: channels of the stem.
        num_classes: outputs of `fc`.
        norm: makes the BatchNorm of a given width.
        stem_stride: 2 halves the images first.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        stem: int,
        num_classes: int,
        *,
        norm: Norm = nn.BatchNorm2d,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, stem, stem_stride)
        self.bn1 = norm(stem)
        self.act = nn.ReLU()
        self.taps = tuple(f"layer{stage}" for stage in range(1, len(blocks) + 1))
        inputs, points = stem, []
        for name, count, width in zip(self.taps, blocks, widths, strict=True):
            layers = []
            for index in range(count):
                stride = 2 if index == 0 and name != "layer1" else 1
                layers.append(BasicBlock(inputs, width, stride, norm))
                points += [f"{name}.{index}.act_in", f"{name}.{index}.act"]
                inputs = width
            self.add_module(name, nn.Sequential(*layers))
        self.act_points = tuple(points)
        self.pre_activation_taps = tuple(
            f"{name}.{count - 1}.pre_relu" for name, count in zip(self.taps, blocks, strict=True)
        )
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Maps) -> Logits:
        x = self.act(self.bn1(self.conv1(x)))
        for name in self.taps:
            x = getattr(self, name)(x)
        return self.logits(x)


def _paper(name: str, blocks: int, num_classes: int, seed: int) -> Network:
    construct = partial(ResNet, (blocks,) * 4, (64, 128, 256, 512), 64, num_classes, norm=paper_norm)
    return make(name, construct, num_classes, seed)


def resnet18(num_classes: int = 10, *, seed: int = 0) -> Network:
    """The paper's ResNet18: two blocks in each of four stages of 64, 128, 256, 512 channels; 11.2 M parameters."""
    return _paper("resnet18", 2, num_classes, seed)


def resnet8(num_classes: int = 10, *, seed: int = 0) -> Network:
    """The paper's ResNet8: as ResNet18 with one block in each stage; 4.9 M parameters."""
    return _paper("resnet8", 1, num_classes, seed)


def _cifar(
    name: str, blocks: int, widths: Sequence[int], num_classes: int, seed: int, stem: int = 0
) -> Network:
    construct = partial(ResNet, (blocks,) * 3, widths, stem or widths[0], num_classes)
    return make(name, construct, num_classes, seed)


def resnet20(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Three stages of three blocks, 16, 32, 64 channels; 0.28 M parameters (100 classes)."""
    return _cifar("resnet20", 3, (16, 32, 64), num_classes, seed)


def resnet32(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Three stages of five blocks, 16, 32, 64 channels; 0.47 M parameters (100 classes)."""
    return _cifar("resnet32", 5, (16, 32, 64), num_classes, seed)


def resnet56(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Three stages of nine blocks, 16, 32, 64 channels; 0.86 M parameters (100 classes)."""
    return _cifar("resnet56", 9, (16, 32, 64), num_classes, seed)


def resnet8x4(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Three stages of one block, 64, 128, 256 channels; 1.23 M parameters (100 classes)."""
    return _cifar("resnet8x4", 1, (64, 128, 256), num_classes, seed, stem=32)


def resnet32x4(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Three stages of five blocks, 64, 128, 256 channels; 7.43 M parameters (100 classes)."""
    return _cifar("resnet32x4", 5, (64, 128, 256), num_classes, seed, stem=32)


def resnet8_small(num_classes: int = 10, *, seed: int = 0) -> Network:
    """For CPUs: three stages of one block, 16, 32, 64 channels; 0.08 M parameters."""
    return _cifar("resnet8-small", 1, (16, 32, 64), num_classes, seed)


def cnn_tiny(num_classes: int = 10, *, seed: int = 0) -> Network:
    """The demo's: halves the image, then three stages of one block, 8, 16, 32 channels; 0.02 M parameters."""
    construct = partial(ResNet, (1, 1, 1), (8, 16, 32), 8, num_classes, stem_stride=2)
    return make("cnn-tiny", construct, num_classes, seed)


def cnn_small(num_classes: int = 10, *, seed: int = 0) -> Network:
    """For studies on CPUs: `cnn_tiny` with four times its width, 32, 64, 128 channels; 0.31 M parameters."""
    construct = partial(ResNet, (1, 1, 1), (32, 64, 128), 32, num_classes, stem_stride=2)
    return make("cnn-small", construct, num_classes, seed)
