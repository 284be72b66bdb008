"""Operators of classifiers in both exported forms, against PyTorch."""

import copy
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from classifiers import CLASSIFIERS
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.errors import InputError
from rolewise.pretrained import any_network, export
from rolewise.quant import quantize

SUFFIXES = (".onnx", ".xml")


def drawn(model: nn.Module) -> nn.Module:
    """Every tensor of a network from one generator, running variances positive; eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                fan = tensor[0].numel() if tensor.ndim > 1 else 4
                values = torch.randn(tensor.shape, generator=generator) / fan**0.5
                tensor.copy_(values.abs() + 0.5 if name.endswith(("running_var", "bn.weight")) else values)
    return model.eval()


def compare(model: nn.Module, path: Path, size: int, tolerance: float = 1e-4) -> None:
    """File and network on images that the export has not seen."""
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(5))
    network = any_network(export(model, path, image_size=(size, size)), threads=1)
    with torch.no_grad():
        expected = model(images)
        assert expected.abs().max() > 0
        gap = (network(images) - expected).abs().max() / expected.abs().max()
        assert gap < tolerance
        torch.testing.assert_close(network(images[:1]), network(images)[:1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(tmp_path: Path, name: str, suffix: str):
    compare(drawn(CLASSIFIERS[name]()), tmp_path / f"net{suffix}", 64)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["ResNeXt", "MobileNetV3", "ConvNeXt"])
def test_classifiers_with_low_bit_weights(tmp_path: Path, name: str, suffix: str):
    """Their activations stay float, so that OpenVINO executes them in float, and says so."""
    model = quantize(drawn(CLASSIFIERS[name]()), 4, 32)
    with pytest.warns(UserWarning, match="not executed in 8-bit") if suffix == ".xml" else nullcontext():
        compare(model, tmp_path / f"net{suffix}", 64)


class Probe(nn.Module):
    """One operator between a convolution and the classifier."""

    def __init__(self, part: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.part, self.head = nn.Conv2d(3, 8, 3, padding=1), part, nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.part(self.stem(x)), 1))


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2).unsqueeze(1)
        return F.scaled_dot_product_attention(rows, rows.flip(2), rows).squeeze(1)


class InPlace(nn.Module):
    """Writes through views, a slice, a selected channel, and an alias that dropout returns."""

    def forward(self, x: Tensor) -> Tensor:
        alias = F.dropout(x, 0.5, training=False)
        F.relu_(alias[:, 2:5])
        x[:, 0] = x[:, 1] * 2
        x[:, :, 1:3].mul_(3)
        x.view(x.shape[0], -1)[:, :7] += 1
        return x


PARTS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "Dropout2d": lambda: nn.Dropout2d(0.5),
    "AlphaDropout": lambda: nn.AlphaDropout(0.5),
    "FeatureAlphaDropout": lambda: nn.FeatureAlphaDropout(0.5),
    "valid": lambda: nn.Conv2d(8, 6, 3, padding="valid"),
    "same": lambda: nn.Conv2d(8, 6, 3, padding="same"),
    "same, even": lambda: nn.Conv2d(8, 6, (4, 2), padding="same", dilation=(1, 3)),
    "reflect": lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect"),
    "circular": lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular"),
    "dilated": lambda: nn.Conv2d(8, 6, 3, padding=2, dilation=2),
    "grouped, uneven": lambda: nn.Conv2d(8, 12, (3, 1), (2, 1), (1, 0), groups=4),
    "transposed": lambda: nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1, groups=2, dilation=2),
    "Conv1d": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(8, 4, 5, 2, padding="valid"), nn.AvgPool1d(2)),
    "pools of rows": lambda: nn.Sequential(nn.Flatten(2), nn.MaxPool1d(3, 2), nn.AdaptiveAvgPool1d(7)),
    "transposed rows": lambda: nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(8, 4, 3, 2)),
    "Hardswish": lambda: nn.Hardswish(inplace=True),
    "SiLU": lambda: nn.SiLU(inplace=True),
    "GELU": nn.GELU,
    "GELU, tanh": lambda: nn.GELU(approximate="tanh"),
    "Mish": nn.Mish,
    "ELU": lambda: nn.ELU(0.7, inplace=True),
    "SELU": nn.SELU,
    "CELU": lambda: nn.CELU(0.7),
    "PReLU": lambda: nn.PReLU(8),
    "LeakyReLU": lambda: nn.LeakyReLU(0.2, inplace=True),
    "Softplus": nn.Softplus,
    "Softsign": nn.Softsign,
    "Hardtanh": lambda: nn.Hardtanh(-0.5, 0.7),
    "LogSigmoid": lambda: lambda x: torch.log(torch.sigmoid(x)),
    "GroupNorm": lambda: nn.GroupNorm(4, 8),
    "GroupNorm, plain": lambda: nn.GroupNorm(2, 8, affine=False),
    "LayerNorm": lambda: nn.LayerNorm([8, 18, 18]),
    "LayerNorm, plain": lambda: nn.LayerNorm(18, elementwise_affine=False),
    "InstanceNorm": lambda: nn.InstanceNorm2d(8, affine=True),
    "InstanceNorm, running": lambda: nn.InstanceNorm2d(8, track_running_stats=True),
    "LocalResponse": lambda: lambda x: x / (1 + x.pow(2)).sqrt(),
    "ZeroPad": lambda: nn.ZeroPad2d((1, 2, 0, 3)),
    "ReplicationPad": lambda: nn.ReplicationPad2d(2),
    "ReflectionPad": lambda: nn.ReflectionPad2d(2),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "nearest, size": lambda: nn.Upsample(size=(27, 36)),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear, corners": lambda: nn.Upsample(size=(25, 31), mode="bilinear", align_corners=True),
    "adaptive average, uneven": lambda: nn.AdaptiveAvgPool2d((5, 7)),
    "adaptive maximum, uneven": lambda: nn.AdaptiveMaxPool2d((4, 5)),
    "adaptive, one axis": lambda: nn.AdaptiveAvgPool2d((None, 1)),
    "pool, ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "pool, dilated": lambda: nn.MaxPool2d(2, 1, dilation=2),
    "average, no pad": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "ChannelShuffle": lambda: nn.ChannelShuffle(4),
    "PixelShuffle": lambda: nn.PixelShuffle(2),
    "batch folded": lambda: lambda x: (x.reshape(x.shape[0] * 2, 4, *x.shape[2:]) * 2).reshape(x.shape),
    "stack": lambda: lambda x: torch.stack([x, -x], 2).amax(2),
    "select": lambda: lambda x: x[:, 3] + x[:, -1],
    "split": lambda: lambda x: torch.cat([part.exp() for part in x.split([3, 5], 1)], 1),
    "flip": lambda: lambda x: x.flip(-1),
    "expand": lambda: lambda x: x * x.amax((2, 3), keepdim=True).expand_as(x),
    "matmul": lambda: lambda x: x @ x.transpose(2, 3),
    "norm": lambda: lambda x: F.normalize(x, dim=1),
    "rsub": lambda: lambda x: 1 - 2 / (x.abs() + 1),
    "log_softmax": lambda: lambda x: F.log_softmax(x, 1) + F.softmax(x, -1),
    "attention": Attention,
    "in place": InPlace,
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", PARTS)
def test_single_operators(tmp_path: Path, name: str, suffix: str):
    model = Probe(PARTS[name]())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of PyTorch, about the cost of padding even kernels
        model(torch.zeros(1, 3, 18, 18))
        compare(drawn(model), tmp_path / f"net{suffix}", 18)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.BatchNorm2d(8, track_running_stats=False), 'BatchNorm without running statistics in "part"'),
        (nn.AvgPool2d(2, divisor_override=3), '`divisor_override` of an average pool in "part"'),
        (lambda x: x.cumsum(1), "the operator aten.cumsum.default has no translation"),
    ],
)
def test_what_is_refused(tmp_path: Path, part: nn.Module, message: str):
    model = Probe(part)
    model.head = nn.LazyLinear(5)
    with torch.no_grad():
        model(torch.zeros(2, 3, 8, 8))
    for suffix in SUFFIXES:
        with pytest.raises(InputError, match=f"Export: {message}"):
            export(model, tmp_path / f"net{suffix}", image_size=(8, 8))
    assert list(tmp_path.iterdir()) == []


class Counting(nn.Module):
    """What a trace cannot see: plain Python state decides what happens."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.calls = nn.Linear(3, 4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(x.mean((2, 3))) * (1 if self.calls == 1 else 2)

    def __deepcopy__(self, memo: dict[int, object]) -> "Counting":
        other = Counting()
        other.head = copy.deepcopy(self.head, memo)
        return other


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_differs_is_not_kept(tmp_path: Path, suffix: str):
    with pytest.raises(InputError, match="the file differs from the network by .* It was not kept"):
        export(Counting(), tmp_path / f"net{suffix}")
    assert list(tmp_path.iterdir()) == []
