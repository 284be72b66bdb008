"""Layers as loops over their definitions, in float64: convolution, transposed convolution, batch norm, pooling."""

import math

import torch
from torch import Tensor


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """out[b, o, i, j] = bias[o] + sum over input channels and the kernel."""
    n, c, h, w = x.shape
    outputs, _, high, wide = weight.shape
    padded = torch.zeros(n, c, h + 2 * padding, w + 2 * padding, dtype=x.dtype)
    padded[:, :, padding : padding + h, padding : padding + w] = x
    rows, columns = (h + 2 * padding - high) // stride + 1, (w + 2 * padding - wide) // stride + 1
    out = []
    for b in range(n):
        for o in range(outputs):
            for i in range(rows):
                for j in range(columns):
                    top, left = i * stride, j * stride
                    value = (padded[b, :, top : top + high, left : left + wide] * weight[o]).sum()
                    out.append(value if bias is None else value + bias[o])
    return torch.stack(out).view(n, outputs, rows, columns)


def transposed_conv(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Each input position adds its value times the kernel to a window of the output."""
    n, c, h, w = x.shape
    _, outputs, high, wide = weight.shape
    full = torch.zeros(n, outputs, (h - 1) * stride + high, (w - 1) * stride + wide, dtype=x.dtype)
    for b in range(n):
        for k in range(c):
            for i in range(h):
                for j in range(w):
                    window = torch.zeros_like(full)
                    top, left = i * stride, j * stride
                    window[b, :, top : top + high, left : left + wide] = x[b, k, i, j] * weight[k]
                    full = full + window
    return full[:, :, padding : full.shape[2] - padding, padding : full.shape[3] - padding]


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """With the statistics of the batch; the variance divides by the number of values."""
    channels = []
    for c in range(x.shape[1]):
        values = x[:, c]
        mean = values.sum() / values.numel()
        variance = ((values - mean) ** 2).sum() / values.numel()
        channels.append((values - mean) / torch.sqrt(variance + eps) * weight[c] + bias[c])
    return torch.stack(channels, 1)


def pool(x: Tensor, height: int, width: int) -> Tensor:
    """Averages over fields that share the map out as evenly as whole positions allow."""
    h, w = x.shape[2:]
    rows = []
    for i in range(height):
        top, bottom = i * h // height, math.ceil((i + 1) * h / height)
        row = []
        for j in range(width):
            left, right = j * w // width, math.ceil((j + 1) * w / width)
            row.append(x[:, :, top:bottom, left:right].sum((2, 3)) / ((bottom - top) * (right - left)))
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def enlarge(x: Tensor, height: int, width: int) -> Tensor:
    """Nearest neighbor."""
    h, w = x.shape[2:]
    rows = [[x[:, :, i * h // height, j * w // width] for j in range(width)] for i in range(height)]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def same_size(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps pooled to the smaller height and width."""
    height, width = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
    return pool(s, height, width), pool(t, height, width)


def length(values: list[Tensor]) -> Tensor:
    """Euclidean length of a list of scalars."""
    return torch.sqrt(sum(v * v for v in values))


def direction(values: list[Tensor]) -> list[Tensor]:
    """At length 1; the zero vector stays."""
    size = length(values)
    return (
        [v / size for v in values] if float(size.detach()) > 1e-12 else [torch.zeros_like(v) for v in values]
    )
