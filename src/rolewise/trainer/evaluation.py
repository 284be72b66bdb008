"""Metrics of an epoch; accuracy and loss on a split: large batches, weights quantized once, sums on the device."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.augment import normalization_table, normalize
from rolewise.data import Channels, Split
from rolewise.errors import Interrupted
from rolewise.objective import Placement
from rolewise.objective.forward import eval_mode
from rolewise.quant import frozen_weights
from rolewise.trainer.parallel import Group

_RELEASE_BATCH = 128  # images, of the authors' evaluation


def default_batch(device: torch.device) -> int:
    """How many images at a time: many on a GPU; on a CPU so few that the maps of a layer stay in its cache."""
    return 200 if device.type == "cpu" else 1000


@dataclass(frozen=True)
class EpochMetrics:
    """Means over one epoch: `loss`, `accuracy` (a fraction, on augmented images), and what the objective adds."""

    values: dict[str, float]

    @property
    def loss(self) -> float:
        return self.values["loss"]

    @property
    def accuracy(self) -> float:
        return self.values["accuracy"]

    @property
    def finite(self) -> bool:
        """Whether the training has not diverged."""
        return math.isfinite(self.loss)


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (a fraction) and mean cross-entropy over `n` images.

    Args:
        logits: logits of every image in the split's order (n, k), float32 on the CPU; None unless requested.
    """

    accuracy: float
    loss: float
    n: int
    logits: Tensor | None = field(default=None, repr=False, compare=False)


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    mean: Channels,
    std: Channels,
    placement: Placement,
    batch: int | None = None,
    batch_statistics: bool = False,
    keep_logits: bool = False,
    should_stop: Callable[[], bool] | None = None,
    group: Group | None = None,
) -> Evaluation:
    """Evaluates `model` on all images of `split`; its mode and its buffers are as before afterwards.

    Args:
        mean, std: constants of the normalization, per channel.
        placement: device, precision and memory format.
        batch: number of images at a time; None: what suits the device.
        batch_statistics: batch normalization uses each batch's own statistics (128 images, unshuffled), as the
            role-wise release did; for comparisons with the paper's numbers alone. One image that would be left over
            joins the batch before it: it has no statistics of its own.
        keep_logits: True keeps the logits in the result.
        should_stop: polled before each batch.
        group: the processes that share the batches; all get the same result.
    Raises:
        Interrupted: `should_stop` returned True; nothing has changed.
    """
    size = _RELEASE_BATCH if batch_statistics else batch or default_batch(placement.device)
    parts = _parts(len(split), size, alone=not batch_statistics)
    logits: dict[int, Tensor] = {}
    sums = torch.zeros(2, dtype=torch.float64, device=placement.device)
    mode: AbstractContextManager[None] = _batch_statistics(model) if batch_statistics else eval_mode(model)
    with torch.inference_mode(), mode, frozen_weights(model):
        rank, processes = (0, 1) if group is None else (group.rank, group.size)
        for number in range(
            rank, rank + len(parts), processes
        ):  # as often in every process, so that all agree to stop
            if should_stop is not None and should_stop():
                raise Interrupted("stopped during an evaluation")
            if number >= len(parts):
                continue
            pixels, labels = split.images[parts[number]], split.labels[parts[number]]
            images = _normalized(pixels, mean, std, placement)
            labels = placement.send(placement.pin(labels))
            with placement.autocast():
                found = model(images).float()
            sums += _sums(found, labels)
            if keep_logits:
                logits[number] = found
    if group is not None:
        group.sum_(sums)
    correct, loss = sums.tolist()
    kept = _together(logits, parts, split.num_classes, group, placement.device) if keep_logits else None
    return Evaluation(correct / len(split), loss / len(split), len(split), kept)


def _normalized(pixels: Tensor, mean: Channels, std: Channels, placement: Placement) -> Tensor:
    """The images as the network takes them, on its device; made where they are, to the same bytes."""
    if pixels.device.type == "cpu":
        images = normalize(pixels, mean, std, dtype=placement.dtype, channels_last=placement.channels_last)
        return placement.send(placement.pin(images))
    table = normalization_table(mean, std).to(placement.dtype)
    return look_up(pixels, placement.send(placement.pin(table)), placement)


def look_up(
    pixels: UInt8[Tensor, "n h w c"], table: Float[Tensor, "c 256"], placement: Placement
) -> Float[Tensor, "n c h w"]:
    """The normalized images, value by value from the table of each channel."""
    offsets = torch.arange(0, table.numel(), table.shape[1], device=pixels.device)
    images = table.flatten()[pixels.long() + offsets].permute(0, 3, 1, 2)  # channels last as it is
    return images if placement.channels_last else images.contiguous()


def _parts(count: int, size: int, *, alone: bool) -> list[slice]:
    """The batches of `count` images; unless `alone`, a last batch is not one image."""
    ends = [*range(size, count, size), count]
    if not alone and len(ends) > 1 and ends[-1] - ends[-2] == 1:
        del ends[-2]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _together(
    logits: dict[int, Tensor], parts: list[slice], classes: int, group: Group | None, device: torch.device
) -> Tensor:
    """The logits of all images, from the batches of all processes."""
    if group is None:
        return torch.cat([logits[number] for number in range(len(parts))]).cpu()
    whole = torch.zeros(parts[-1].stop, classes, device=device)
    for number, found in logits.items():
        whole[parts[number]] = found.to(device)
    return group.sum_(whole).cpu()


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack(((logits.argmax(1) == labels).sum().double(), loss.double()))


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalization in training mode, its buffers as before afterwards; all else in eval mode."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in layers]
    with eval_mode(model):
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer, buffers in zip(layers, kept, strict=True):
                for name, buffer in layer.named_buffers():
                    buffer.copy_(buffers[name])
