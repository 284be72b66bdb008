"""Accuracy and loss of a network on a split: large batches, weights quantized once, sums on the device."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.augment import normalize
from rolewise.data import Channels, Split
from rolewise.errors import Interrupted
from rolewise.objective import Placement
from rolewise.quant import frozen_weights
from rolewise.trainer.parallel import Group


def default_batch(device: torch.device) -> int:
    """How many images at a time: many on a GPU; on a CPU so few that the maps of a layer stay in its cache."""
    return 200 if device.type == "cpu" else 1000


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (a fraction) and mean cross-entropy over `n` images."""

    accuracy: float
    loss: float
    n: int


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    mean: Channels,
    std: Channels,
    placement: Placement,
    batch: int | None = None,
    batch_statistics: bool = False,
    should_stop: Callable[[], bool] | None = None,
    group: Group | None = None,
) -> Evaluation:
    """Evaluates `model` on all images of `split`; its mode and its buffers are as before afterwards.

    Args:
        mean, std: normalisation of the images, per channel.
        placement: device, precision and memory format.
        batch: images at a time; None: what suits the device.
        batch_statistics: batch normalisation uses each batch's own statistics (128 images, unshuffled), as the
            role-wise release did; for comparisons with the paper's numbers alone.
        should_stop: asked before each batch.
        group: the processes that share the batches; all get the same result.
    Raises:
        Interrupted: `should_stop` said so; nothing has changed.
    """
    size = 128 if batch_statistics else batch or default_batch(placement.device)
    sums = torch.zeros(2, dtype=torch.float64, device=placement.device)
    mode: AbstractContextManager[None] = _batch_statistics(model) if batch_statistics else _eval_mode(model)
    with torch.inference_mode(), mode, frozen_weights(model):
        first, stride = (0, size) if group is None else (group.rank * size, group.size * size)
        for start in range(
            first, first + len(split), stride
        ):  # as often in every process, so that all agree to stop
            if should_stop is not None and should_stop():
                raise Interrupted("stopped during an evaluation")
            if start >= len(split):
                continue
            pixels, labels = split.images[start : start + size], split.labels[start : start + size]
            images = normalize(
                pixels, mean, std, dtype=placement.dtype, channels_last=placement.channels_last
            )
            sums += _sums(model, images.to(placement.device), labels.to(placement.device), placement)
    if group is not None:
        group.sum_(sums)
    correct, loss = sums.tolist()
    return Evaluation(correct / len(split), loss / len(split), len(split))


def _sums(model: nn.Module, images: Tensor, labels: Tensor, placement: Placement) -> Tensor:
    with placement.autocast():
        logits = model(images).float()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack(((logits.argmax(1) == labels).sum().double(), loss.double()))


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation in training mode, its buffers as before afterwards; all else in eval mode."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in layers]
    with _eval_mode(model):
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer, buffers in zip(layers, kept, strict=True):
                for name, buffer in layer.named_buffers():
                    buffer.copy_(buffers[name])
