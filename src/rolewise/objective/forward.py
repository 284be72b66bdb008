"""A network's forward pass with its tapped features, as written or compiled."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rolewise.kd.base import Outputs, collect
from rolewise.kd.kept import may_be_overwritten

Compiled = Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Within the context the network is in eval mode; afterwards each module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Forward:
    """Calls a network; `.features` of the result are the outputs of its `taps`.

    Compiled, the hooks of the taps are part of the one graph: they are made once and stay as long as this object, since
    a graph does not see hooks that come and go. They do nothing but keep a reference.

    Args:
        model: the network; it is not moved, nor its mode changed.
        taps: names of modules, checked before.
        role: role of the network, for messages.
        compiled: True uses torch.compile; the first call then compiles.
    """

    def __init__(
        self, model: nn.Module, taps: Sequence[str] = (), role: str = "student", *, compiled: bool = False
    ) -> None:
        self.model, self.taps, self.role = model, tuple(taps), role
        self._compiled: Compiled | None = None
        if compiled:
            self._compiled, handles = _compile(model, self.taps)
            for handle in handles:
                weakref.finalize(self, handle.remove)

    def of(self, model: nn.Module) -> "Forward":
        """This one if `model` is its network, else a plain one."""
        return self if model is self.model else Forward(model, self.taps, self.role)

    def __call__(self, images: Tensor) -> Outputs:
        if self._compiled is None:
            return collect(self.model, images, self.taps, self.role)
        # The clip of the KD gradient goes through the graph twice; buffers that are given away could not be read again.
        with torch._functorch.config.patch(donated_buffer=False):
            logits, features = self._compiled(images)
        return Outputs(logits, features)


def _compile(model: nn.Module, taps: Sequence[str]) -> tuple[Compiled, list[RemovableHandle]]:
    """Logits and features in one graph, and its hooks; shapes are static, another batch size compiles again."""
    found: list[Tensor] = [torch.empty(0)] * len(taps)
    # The graph has no version counters: what the network may write into later is copied.
    copied = [may_be_overwritten(model.get_submodule(name)) for name in taps]

    def keep(index: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            found[index] = output.clone() if copied[index] else output

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(keep(index)) for index, name in enumerate(taps)
    ]

    def forward(images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        logits: Tensor = model(images)
        return logits, tuple(found)

    compiled: Compiled = torch.compile(forward, dynamic=False)
    return compiled, handles
