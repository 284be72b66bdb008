"""Networks as people write them: this file is given to the package as own code, and imported by tests."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """torchvision's basic block: one in-place ReLU module, called twice."""

    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1 or width != out:
            self.downsample = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Torchvision(nn.Module):
    """A small ResNet in torchvision's form."""

    def __init__(self, num_classes: int = 1000, width: int = 8, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(width, width), Block(width, width))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layer2(self.layer1(x))), 1))


class Functional(nn.Module):
    """ReLUs as functions: after a batch norm, after a sum that ends a block, and after a sum that ends nothing."""

    class Stage(nn.Module):
        def __init__(self, width: int, out: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1), nn.BatchNorm2d(out)
            self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1), nn.BatchNorm2d(out)
            self.shortcut = nn.Conv2d(width, out, 1, stride)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
            return torch.relu(y + self.shortcut(x))

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.stage1, self.stage2 = self.Stage(8, 8, 1), self.Stage(8, 16, 2)
        self.skip, self.fc = nn.Conv2d(8, 16, 1, 2), nn.Linear(16, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage1(self.bn1(self.conv1(x)).relu())
        x = F.relu(self.stage2(x) - self.skip(x))
        return self.fc(x.mean((2, 3)))


class Named(Torchvision):
    """States its own layers."""

    taps = ("layer1",)
    act_points = ("relu", "layer1.0.relu")


def make(num_classes: int, width: int = 8) -> nn.Module:
    return Torchvision(num_classes, width)


def fixed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )


class Pair(Torchvision):
    """Returns logits and features, as distillation repositories do."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        logits = super().forward(x)
        return logits, [x]


class Fails(Torchvision):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(super().forward(x))


def number() -> int:
    return 3


def empty() -> nn.Module:
    return nn.Flatten()
