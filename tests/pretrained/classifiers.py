"""Small classifiers of the kinds that torchvision and timm hold, written from their papers' architectures."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """A bottleneck of ResNet, ResNeXt (groups) and WRN (width); Xie et al. 2017."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(inputs, width, 1),
            nn.ReLU(inplace=True),
            *conv_bn(width, width, 3, stride, groups),
            nn.ReLU(inplace=True),
            *conv_bn(width, outputs, 1),
        )
        self.down = nn.Sequential(*conv_bn(inputs, outputs, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        out += self.down(x)
        return self.relu(out)


def resnet(groups: int = 1, width: int = 8) -> nn.Module:
    return nn.Sequential(
        *conv_bn(3, 8, 7, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        Residual(8, width, 16, 1, groups),
        Residual(16, width, 24, 2, groups),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


class DenseNet(nn.Module):
    """Each layer reads all maps before it; Huang et al. 2017."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(8 + 4 * i), nn.ReLU(inplace=True), nn.Conv2d(8 + 4 * i, 4, 3, padding=1)
            )
            for i in range(3)
        )
        self.transition = nn.Sequential(
            nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2, 2)
        )
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for layer in self.layers:
            maps.append(F.dropout(layer(torch.cat(maps, 1)), 0.2, self.training))
        x = F.relu(self.transition(torch.cat(maps, 1)), inplace=True)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


def vgg() -> nn.Module:
    return nn.Sequential(
        *[nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2, 2)],
        *[nn.Conv2d(8, 12, 3, padding="same"), nn.BatchNorm2d(12), nn.ReLU(True), nn.MaxPool2d(2, 2)],
        *[nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), nn.Linear(12 * 49, 32), nn.ReLU(True), nn.Dropout(0.5)],
        nn.Linear(32, 5),
    )


class SqueezeExcite(nn.Module):
    """Hu et al. 2018, in the forms of MobileNetV3 and EfficientNet."""

    def __init__(self, width: int, gate: Callable[[Tensor], Tensor], act: nn.Module) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)
        self.gate, self.act = gate, act

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """Sandler et al. 2018: expand, depthwise, project; with or without squeeze-and-excite."""

    def __init__(self, width: int, act: Callable[[], nn.Module], excite: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(width, 3 * width, 1),
            act(),
            *conv_bn(3 * width, 3 * width, 5, 1, 3 * width),
            act(),
            excite,
            *conv_bn(3 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def mobile(act: Callable[[], nn.Module], excite: nn.Module) -> nn.Module:
    return nn.Sequential(
        *conv_bn(3, 8, 3, 2),
        act(),
        Inverted(8, act, excite),
        *conv_bn(8, 16, 1),
        act(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 12),
        act(),
        nn.Dropout(0.2, inplace=True),
        nn.Linear(12, 5),
    )


class ShuffleNet(nn.Module):
    """Ma et al. 2018: half of the channels pass, then the channels are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, 16, 3, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        self.branch = nn.Sequential(
            *conv_bn(8, 8, 1),
            nn.ReLU(inplace=True),
            *conv_bn(8, 8, 3, 1, 8),
            *conv_bn(8, 8, 1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            first, second = x.chunk(2, dim=1)
            x = torch.cat((first, self.branch(second)), dim=1)
            n, c, h, w = x.size()
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.head(x.mean([2, 3]))


class ConvNeXtBlock(nn.Module):
    """Liu et al. 2022: depthwise 7x7, LayerNorm over channels last, GELU, a scale per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth, self.norm = (
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.LayerNorm(width, eps=1e-6),
        )
        self.first, self.act, self.second = (
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )
        self.gamma = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        y = self.gamma * self.second(self.act(self.first(y)))
        return x + y.permute(0, 3, 1, 2)


class GlobalResponse(nn.Module):
    """ConvNeXt V2's norm; Woo et al. 2023."""

    def forward(self, x: Tensor) -> Tensor:
        size = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return x * (size / (size.mean(1, keepdim=True) + 1e-6)) + x


def convnext() -> nn.Module:
    return nn.Sequential(
        *[
            nn.Conv2d(3, 8, 4, 4),
            ConvNeXtBlock(8),
            nn.GroupNorm(1, 8),
            nn.Conv2d(8, 12, 2, 2),
            ConvNeXtBlock(12),
        ],
        *[GlobalResponse(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.LayerNorm(12), nn.Linear(12, 5)],
    )


class Fire(nn.Module):
    """SqueezeNet; Iandola et al. 2016."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = (
            nn.Conv2d(inputs, 4, 1),
            nn.Conv2d(4, 8, 1),
            nn.Conv2d(4, 8, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x), inplace=True)
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    return nn.Sequential(
        *[nn.Conv2d(3, 8, 3, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8)],
        *[
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(16),
            nn.Dropout(0.5),
            nn.Conv2d(16, 5, 1),
            nn.ReLU(inplace=True),
        ],
        *[nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()],
    )


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "ResNet": resnet,
    "ResNeXt": lambda: resnet(groups=4),
    "WRN": lambda: resnet(width=16),
    "DenseNet": DenseNet,
    "VGG": vgg,
    "MobileNetV2": lambda: mobile(lambda: nn.ReLU6(inplace=True), nn.Identity()),
    "MobileNetV3": lambda: mobile(
        lambda: nn.Hardswish(inplace=True), SqueezeExcite(24, F.hardsigmoid, nn.ReLU(inplace=True))
    ),
    "EfficientNet": lambda: mobile(
        lambda: nn.SiLU(inplace=True), SqueezeExcite(24, torch.sigmoid, nn.SiLU(inplace=True))
    ),
    "RegNet": lambda: nn.Sequential(
        *conv_bn(3, 8, 3, 2),
        nn.ReLU(),
        Residual(8, 16, 16, 2, 2),
        SqueezeExcite(16, torch.sigmoid, nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ),
    "ShuffleNetV2": ShuffleNet,
    "ConvNeXt": convnext,
    "SqueezeNet": squeezenet,
}
