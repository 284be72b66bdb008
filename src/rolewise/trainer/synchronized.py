"""Batch normalisation over a batch that several processes share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

Mean = Callable[[Tensor], Tensor]  # over the processes, in place


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps), mean and (biased) variance over the global batch, which is shared evenly.

    With y the result, g its gradient and E the mean over the global batch:
    dx = (g - E[g] - y E[g y]) / sqrt(var + eps).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, mean_over: Mean) -> tuple[Tensor, Tensor, Tensor]:
        dims = [0, *range(2, x.ndim)]
        local, spread = x.mean(dims), x.var(dims, correction=0)
        mean = mean_over(local.clone())
        # The variance of the whole: within the parts, and of the parts' means; nothing large is subtracted.
        variance = mean_over(spread + (local - mean).square())
        scale = (variance + eps).rsqrt()
        y = (x - _along(mean, x)) * _along(scale, x)
        ctx.save_for_backward(y, scale)
        ctx.mean_over = mean_over
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        y, scale = ctx.saved_tensors
        dims = [0, *range(2, y.ndim)]
        means = ctx.mean_over(torch.stack((grad.mean(dims), (grad * y).mean(dims))))
        return (grad - _along(means[0], y) - y * _along(means[1], y)) * _along(scale, y), None, None


def _along(channels: Tensor, x: Tensor) -> Tensor:
    """One value per channel, broadcast over `x`."""
    return channels.view(1, -1, *[1] * (x.ndim - 2))


def _forward(layer: _BatchNorm, mean_over: Mean, size: int, input: Tensor) -> Tensor:
    """What `layer` does in training mode, with the global batch's statistics; in float32 as under autocast."""
    if not (layer.training or layer.running_mean is None):
        plain: Tensor = type(layer).forward(layer, input)
        return plain
    single = input if input.dtype == torch.float64 else input.float()
    found: tuple[Tensor, Tensor, Tensor] = _Normalise.apply(single, layer.eps, mean_over)  # type: ignore[no-untyped-call]
    y, mean, variance = found
    if layer.training and layer.running_mean is not None and layer.running_var is not None:
        _move_averages(layer, mean, variance, size * input.numel() // input.shape[1])
    if layer.weight is not None:
        y = y * _along(layer.weight, y)
    if layer.bias is not None:
        y = y + _along(layer.bias, y)
    return y.to(input.dtype)


@torch.no_grad()
def _move_averages(layer: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """The running averages; that of the variance takes the unbiased one."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    factor: float | Tensor = 0.0 if layer.momentum is None else layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if layer.momentum is None:  # the plain mean of all batches
            factor = 1 / layer.num_batches_tracked.float()
    layer.running_mean += factor * (mean - layer.running_mean)
    layer.running_var += factor * (variance * (count / max(count - 1, 1)) - layer.running_var)


@contextmanager
def synchronized(modules: Sequence[nn.Module], mean_over: Mean, size: int) -> Iterator[None]:
    """While the context lasts, the batch normalisations in `modules` share their statistics.

    Args:
        modules: they stay what they are; the `forward` of batch normalisations is replaced for the time.
        mean_over: the mean of a tensor over all processes, in place.
        size: how many processes there are.
    """
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, _BatchNorm)]
    for layer in layers:
        layer.forward = lambda input, layer=layer: _forward(layer, mean_over, size, input)  # type: ignore[method-assign,misc]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
