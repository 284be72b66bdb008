"""Batch normalization over a batch that several processes share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

Mean = Callable[[Tensor], Tensor]  # over the processes, in place


class _Normalize(torch.autograd.Function):
    """weight * (x - mean) / sqrt(var + eps) + bias; mean and biased variance of the global batch, shared out evenly.

    With z the normalized x, g the result's gradient and E the mean over the global batch:
    dx = weight * (g - E[g] - z E[g z]) / sqrt(var + eps). PyTorch's own kernels do what each process does alone, for
    they take low-precision images with float32 statistics and are many times faster than the same in single steps.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, mean_over: Mean
    ) -> tuple[Tensor, Tensor, Tensor]:
        _, local, scale = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        mean = mean_over(local.clone())
        # The variance of the whole: within the parts, and of the parts' means; nothing large is subtracted.
        variance = mean_over(scale.pow(-2) - eps + (local - mean).square())
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.mean_over = eps, mean_over
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        # As with constant statistics: weight * g / sqrt(var + eps), and this process's sums of g z and of g.
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, mean, scale, False, ctx.eps, [True, True, True]
        )
        count = x.numel() // x.shape[1]
        tilt, shift = ctx.mean_over(torch.stack((dweight, dbias)) / count)  # E[g z], E[g]
        slope = -weight * scale.square() * tilt
        offset = -weight * scale * shift - slope * mean
        zero, one = torch.zeros_like(mean), torch.ones_like(mean)
        eps = torch.finfo(one.dtype).tiny  # 1 + eps is 1; PyTorch 2.11 refuses 0
        return dx.add_(F.batch_norm(x, zero, one, slope, offset, False, 0.0, eps)), dweight, dbias, None, None


def _forward(layer: _BatchNorm, mean_over: Mean, size: int, input: Tensor) -> Tensor:
    """What `layer` does in training mode, with the global batch's statistics."""
    if not (layer.training or layer.running_mean is None):
        plain: Tensor = type(layer).forward(layer, input)
        return plain
    kind = torch.float64 if input.dtype == torch.float64 else torch.float32
    channels = torch.ones(input.shape[1], dtype=kind, device=input.device)
    weight = channels if layer.weight is None else layer.weight
    bias = torch.zeros_like(channels) if layer.bias is None else layer.bias
    found: tuple[Tensor, Tensor, Tensor] = _Normalize.apply(input, weight, bias, layer.eps, mean_over)  # type: ignore[no-untyped-call]
    y, mean, variance = found
    if layer.training and layer.running_mean is not None and layer.running_var is not None:
        _move_averages(layer, mean, variance, size * input.numel() // input.shape[1])
    return y


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
    """While the context lasts, the batch normalizations in `modules` share their statistics.

    Args:
        modules: modules of the network; the `forward` of batch normalizations is replaced within the context.
        mean_over: the mean of a tensor over all processes, in place.
        size: number of processes.
    """
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, _BatchNorm)]
    for layer in layers:
        layer.forward = lambda input, layer=layer: _forward(layer, mean_over, size, input)  # type: ignore[method-assign,misc]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
