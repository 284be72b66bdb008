"""Taps and act points of a network that names none, proposed from one forward pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_RELUS: tuple[Any, ...] = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_MOST_TAPS = 4


@dataclass(frozen=True)
class Proposal:
    """What was found.

    Args:
        taps: the last layer of each resolution, shallow to deep, four at most.
        act_points: the modules whose outputs are (or pass through) a ReLU, in the order of the forward pass.
        unnamed: number of ReLUs that neither are a module, nor follow one alone, nor end one: they stay in full
            precision.
    """

    taps: tuple[str, ...]
    act_points: tuple[str, ...]
    unnamed: int


@dataclass
class _Call:
    """The output of one call of a module; the tensor is kept, so that no other one gets its identity."""

    name: str
    module: nn.Module
    output: Tensor
    inner: bool  # whether modules were called within it


@dataclass
class _Watch(TorchFunctionMode):
    """Notes the ReLUs that are functions, and how often each tensor is used."""

    relus: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    uses: dict[int, int] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in args:
            for tensor in value if isinstance(value, list | tuple) else (value,):
                if isinstance(tensor, Tensor) and not isinstance(tensor, nn.Parameter):
                    self.uses[id(tensor)] = self.uses.get(id(tensor), 0) + 1
                    self.kept.append(tensor)
        if func in _RELUS and args:
            self.relus.append((args[0], result))
        return result


def propose(model: nn.Module, images: Tensor) -> Proposal:
    """Watches one forward pass in evaluation mode; nothing of the network changes.

    Args:
        model: any network whose forward takes the images alone.
        images: a small batch `(n, c, h, w)`.
    """
    calls: list[_Call] = []
    watch = _Watch()
    handles = [
        module.register_forward_hook(_keep(name, calls)) for name, module in model.named_modules() if name
    ]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), watch:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    points, unnamed = _act_points(calls, watch)
    return Proposal(_taps(calls), points, unnamed)


def _keep(name: str, calls: list[_Call]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            inner = any(True for _ in module.children())
            calls.append(_Call(name, module, output, inner))

    return hook


def _act_points(calls: list[_Call], watch: _Watch) -> tuple[tuple[str, ...], int]:
    """Modules that are a ReLU; for a function the module before, if its output is read once, or the one it ends."""
    order = {id(call): number for number, call in enumerate(calls)}
    modules = [call for call in calls if isinstance(call.module, nn.ReLU)]
    relus = {id(call.output) for call in modules}
    found = [(order[id(call)], call.name) for call in modules]
    unnamed = 0
    for before, after in watch.relus:
        if id(after) in relus:
            continue
        leaves = [call for call in calls if call.output is before and not isinstance(call.module, nn.ReLU)]
        ends = [call for call in calls if call.output is after and call.output is not before]
        # An in-place ReLU gives its input back: the module before it then also seems to end with it.
        if leaves and watch.uses.get(id(before), 0) <= 1 + (after is before):
            found.append((order[id(leaves[0])], leaves[0].name))
        elif ends:
            found.append((order[id(ends[-1])], ends[-1].name))
        else:
            unnamed += 1
    return tuple(dict.fromkeys(name for _, name in sorted(found, key=lambda pair: pair[0]))), unnamed


def _taps(calls: list[_Call]) -> tuple[str, ...]:
    """The module that ends each resolution; where an outer module ends with an inner one, the outer."""
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.name] = counts.get(call.name, 0) + 1
    last: dict[tuple[int, int], str] = {}
    for call in calls:
        shape = tuple(call.output.shape)
        if len(shape) == 4 and counts[call.name] == 1 and shape[2] > 1 and shape[3] > 1:
            last[(shape[2], shape[3])] = call.name
    deepest = list(last.values())[-_MOST_TAPS:]
    if not deepest:  # one resolution of 1 x 1 only
        maps = [call.name for call in calls if call.output.ndim == 4 and counts[call.name] == 1]
        deepest = maps[-1:]
    return tuple(deepest)
