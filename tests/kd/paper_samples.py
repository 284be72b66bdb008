"""Inputs for the tests of the paper's six losses: small outputs, features like a network's, a tiny teacher."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import kd_paper as reference
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.kd import KDLoss, Outputs

__all__ = ["reference"]

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # against the float64 loops
METHODS = ("exact", "eigh", "products")
MAPS = ((4, 3, 3), (6, 2, 2), (5, 2, 2))  # more positions than channels, and fewer


def outputs(
    seed: int, *, n: int = 3, maps: Sequence[tuple[int, int, int]] = MAPS, classes: int = 4
) -> Outputs:
    """Logits and non-negative maps, in float64, exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator)
    features = tuple(torch.rand(n, *shape, generator=generator).double() for shape in maps)
    return Outputs(logits.double(), features)


def cast(x: Outputs, dtype: torch.dtype, *, requires_grad: bool = False) -> Outputs:
    """A copy of another type whose tensors are leaves."""

    def leaf(t: Tensor) -> Tensor:
        return t.detach().to(dtype, copy=True).requires_grad_(requires_grad)

    return Outputs(leaf(x.logits), tuple(leaf(f) for f in x.features), x.labels, x.ids)


def leaves(x: Outputs) -> list[Tensor]:
    return [x.logits, *x.features]


def gradients(loss: Callable[[Outputs, Outputs], Tensor], student: Outputs, teacher: Outputs) -> list[Tensor]:
    """The value, then the gradients of logits and maps; zeros where the loss does not look."""
    student = cast(student, student.logits.dtype, requires_grad=True)
    value = loss(student, teacher)
    found = torch.autograd.grad(value, leaves(student), allow_unused=True)
    return [
        value.detach(),
        *(torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves(student), strict=True)),
    ]


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor], rtol: float) -> None:
    """Value and gradients, each measured against the largest entry of its own tensor."""
    for a, b in zip(found, expected, strict=True):
        scale = max(float(b.abs().max()), 1e-30)
        assert float((a.double() - b.double()).abs().max()) <= rtol * scale


def check_against(loss: KDLoss, reference: Callable[[Outputs, Outputs], Tensor], dtype: torch.dtype) -> None:
    """Value and gradient of a loss against its float64 reference."""
    student, teacher = outputs(1), outputs(2)
    expected = gradients(reference, student, teacher)
    assert float(expected[0]) > 0
    found = gradients(loss, cast(student, dtype), cast(teacher, dtype))
    assert all(x.dtype == dtype for x in found)
    assert_same(found, expected, TOLERANCE[dtype])


def network_like(seed: int, *, n: int = 16, noise: float = 0.0) -> Outputs:
    """Maps as networks give them (a random one, on smooth images): dead channels, spectra that fall, both shapes.

    Args:
        seed: of the images; the network is always the same.
        noise: how far the network's weights are moved.
    """
    generator = torch.Generator().manual_seed(seed)
    x = F.interpolate(torch.randn(n, 3, 5, 5, generator=generator), size=16, mode="bicubic")
    weights = torch.Generator().manual_seed(0)
    features = []
    channels = 3
    for width, stride in ((24, 1), (48, 2), (64, 2), (96, 2)):
        kernel = torch.randn(width, channels, 3, 3, generator=weights) * (2 / (9 * channels)) ** 0.5
        kernel = kernel + noise * kernel.std() * torch.randn(kernel.shape, generator=weights)
        x = F.conv2d(x, kernel, stride=stride, padding=1)
        x = x - x.mean((0, 2, 3), keepdim=True)
        x = F.relu(x / x.std((0, 2, 3), keepdim=True) - torch.rand(width, generator=weights).view(-1, 1, 1))
        x[:, ::9] = 0
        features.append(x)
        channels = width
    return Outputs(torch.randn(n, 10, generator=generator), tuple(features))


def grams(n: int, m: int, spectrum: Callable[[Tensor], Tensor], seed: int = 0) -> Tensor:
    """Random symmetric matrices of trace 1 whose eigenvalues are `spectrum(0..m-1)`, signs of entries mixed."""
    g = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, m, m, generator=g, dtype=torch.float64))[0]
    values = spectrum(torch.arange(m, dtype=torch.float64))
    gram = basis * (values / values.sum()) @ basis.mT
    return (gram + gram.mT) / 2


class Teacher(nn.Module):
    """A tiny network with a tap per stage."""

    def __init__(self, widths: Sequence[int] = (4, 6, 5)) -> None:
        super().__init__()
        self.taps = ("a", "b", "c")[: len(widths)]
        generator = torch.Generator().manual_seed(5)
        with torch.random.fork_rng(devices=[]):
            channels = 3
            for name, width in zip(self.taps, widths, strict=True):
                stage = nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
                self.add_module(name, stage)
                channels = width
            self.head = nn.Linear(channels, 4)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=0.4, generator=generator)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        for name in self.taps:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))


def images(n: int, size: int = 16) -> SimpleNamespace:
    """A training split of random pixels."""
    generator = torch.Generator().manual_seed(9)
    return SimpleNamespace(
        images=torch.randint(0, 256, (n, size, size, 3), generator=generator, dtype=torch.uint8),
        labels=torch.arange(n) % 4,
        mean=(0.5, 0.45, 0.4),
        std=(0.25, 0.2, 0.3),
    )
