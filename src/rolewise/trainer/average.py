"""An average of the weights along the training: exponential over the steps, or the mean over the last epochs."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rolewise.errors import Interrupted
from rolewise.objective import Placement
from rolewise.quant import frozen_weights
from rolewise.trainer.feed import Batch
from rolewise.trainer.settings import TrainSettings

STATISTICS_BATCHES = 100  # batches over which batch normalization's statistics are estimated again


class WeightAverage:
    """The averaged parameters of a network; buffers are not averaged, see `estimate_statistics`.

    Exponential: after each step w_avg <- d w_avg + (1 - d) w with d = min(decay, (1 + t) / (10 + t)), t the steps so
    far, so that the initial weights do not dominate a short training. The mean over the last k epochs is that of the
    weights at the end of each (Izmailov et al., UAI 2018, with the training's own learning rates).

    Source: Polyak and Juditsky, 1992; the warm-up of the decay as in TensorFlow's ExponentialMovingAverage.

    Args:
        model: the network that is trained.
        decay: decay of the exponential average, in (0, 1); None: the mean over epochs.
        last: k, the number of epochs at the end whose weights are averaged.
    """

    def __init__(self, model: nn.Module, *, decay: float | None, last: int | None) -> None:
        self.decay, self.last = decay, last
        named = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._parameters = list(named.values())
        self._names = list(named)
        self._average = [one.detach().clone() for one in self._parameters]
        # On the device and float64: the step that is recorded once must count.
        self._steps = torch.zeros((), dtype=torch.float64, device=self._parameters[0].device)

    @classmethod
    def of(cls, model: nn.Module, settings: TrainSettings) -> "WeightAverage | None":
        """The average that the settings ask for, if any."""
        if settings.ema_decay is None and settings.ema_epochs is None:
            return None
        return cls(model, decay=settings.ema_decay, last=settings.ema_epochs)

    def scale(self, ratios: Mapping[str, Tensor]) -> None:
        """Multiplies what is averaged of the named parameters, which were multiplied by the same."""
        with torch.no_grad():
            for name, average in zip(self._names, self._average, strict=True):
                if name in ratios:
                    average.mul_(ratios[name])

    def after_step(self) -> None:
        """Takes in the weights after one step; waits for nothing."""
        if self.decay is None:
            return
        keep = ((1 + self._steps) / (10 + self._steps)).clamp_max(self.decay).float()
        with torch.no_grad():
            torch._foreach_mul_(self._average, keep)
            torch._foreach_add_(self._average, torch._foreach_mul(self._parameters, 1 - keep))  # type: ignore[arg-type]
            self._steps += 1

    def after_epoch(self, epoch: int, epochs: int) -> None:
        """Takes in the weights at the end of the 0-based `epoch` of `epochs`."""
        if self.last is None:
            return
        count = epoch - (epochs - min(self.last, epochs)) + 1
        if count >= 1:
            with torch.no_grad():
                torch._foreach_lerp_(self._average, self._parameters, 1 / count)  # type: ignore[arg-type]

    def applied(self, model: nn.Module) -> nn.Module:
        """A copy of `model` with the averaged weights; its buffers are still those of the last weights."""
        result = copy.deepcopy(model)
        named = dict(result.named_parameters())
        with torch.no_grad():
            for name, average in zip(self._names, self._average, strict=True):
                named[name].copy_(average)
        return result

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        return {**dict(zip(self._names, self._average, strict=True)), "#steps": self._steps}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back `state()`, in place."""
        with torch.no_grad():
            self._steps.copy_(state["#steps"])
            for name, average in zip(self._names, self._average, strict=True):
                average.copy_(state[name])


def estimate_statistics(
    model: nn.Module,
    batches: Iterable[Batch],
    placement: Placement,
    *,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Gives batch normalization the statistics that `model` has on `batches`: plain means of each batch's.

    The batches must be the training's own, augmented and mixed as its last epochs were: a network that has never seen
    plain images, given the statistics of plain images, normalizes with others than its weights were trained for.

    Raises:
        Interrupted: `should_stop` returned True; the statistics are incomplete.
    """
    layers = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.track_running_stats]
    if not layers:
        return
    with _estimating(model, layers), torch.no_grad(), frozen_weights(model):
        for number, batch in enumerate(batches):
            if number == STATISTICS_BATCHES:
                break
            if should_stop is not None and should_stop():
                raise Interrupted("stopped while batch normalization's statistics were estimated")
            with placement.autocast():
                model(batch.images)


@contextmanager
def _estimating(model: nn.Module, layers: list[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """Batch normalization alone in training mode, its statistics cumulative means from nothing on."""
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
        layer.momentum = None
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.eval()
