"""Observes `KDLoss.prepare`: progress, a stop within a batch, resuming after an epoch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rolewise.errors import Interrupted

State = Mapping[str, Tensor]


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Preparation:
    """Callbacks and saved state of the caller of `prepare`; a loss gets them from `preparation()`.

    Args:
        batch: callback; receives the number of images in the next batch.
        epoch: callback; receives the number of complete epochs and a copy of the state after them.
        should_stop: polled before each batch.
        begun: number of epochs that are already complete.
        saved: the state after them; None where nothing is.
    """

    batch: Callable[[int], None] = _nothing
    epoch: Callable[[int, dict[str, Tensor]], None] = _nothing
    should_stop: Callable[[], bool] = bool
    begun: int = 0
    saved: State | None = None

    def next_batch(self, images: int) -> None:
        """A batch is about to be used.

        Raises:
            Interrupted: it must not be.
        """
        if self.should_stop():
            raise Interrupted("stopped while the distillation loss was prepared")
        self.batch(images)

    def restore(
        self,
        modules: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator | None = None,
    ) -> None:
        """Brings fresh parts to where they were after `begun` epochs."""
        if self.saved is None:
            return
        for number, module in enumerate(modules):
            start = f"module.{number}."
            module.load_state_dict(
                {k.removeprefix(start): v for k, v in self.saved.items() if k.startswith(start)}
            )
        for number, parameter in enumerate(_parameters(optimizer)):
            start = f"optimizer.{number}."
            for key, value in self.saved.items():
                if key.startswith(start):  # a count of steps is a scalar that stays on the CPU
                    own = value.to(parameter.device) if value.dim() else value.clone()
                    optimizer.state[parameter][key.removeprefix(start)] = own
        if generator is not None:
            generator.set_state(self.saved["generator"].clone())

    def end_epoch(
        self,
        done: int,
        modules: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator | None = None,
    ) -> None:
        """An epoch is complete; `done` counts those before it too."""
        state = {
            f"module.{number}.{name}": tensor
            for number, module in enumerate(modules)
            for name, tensor in module.state_dict().items()
        }
        for number, parameter in enumerate(_parameters(optimizer)):
            for key, value in optimizer.state[parameter].items():
                if isinstance(value, Tensor):
                    state[f"optimizer.{number}.{key}"] = value
        if generator is not None:
            state["generator"] = generator.get_state()
        self.epoch(done, {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()})


_watching: ContextVar[Preparation | None] = ContextVar("preparation", default=None)


def preparation() -> Preparation:
    """What watches the preparation that is under way; without anyone, it hears and stops nothing."""
    return _watching.get() or Preparation()


@contextmanager
def watched(by: Preparation) -> Iterator[None]:
    """Losses that are prepared while the context lasts report to `by`."""
    token = _watching.set(by)
    try:
        yield
    finally:
        _watching.reset(token)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
