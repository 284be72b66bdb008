"""Forward passes of a low-bit network: while one runs, the layers' weights are the quantized ones.

`quantize` puts two hooks on the network. They mark the time within which `layer.weight` gives the quantized weight to
any code that reads it (fused kernels of `nn.TransformerEncoderLayer`, `F.conv2d(x, self.conv.weight)`), and on a GPU
they quantize the weights of all layers at once.
"""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from rolewise.quant.flat import fits
from rolewise.quant.method import METHODS
from rolewise.quant.tracing import composed


class Passes(threading.local):
    """The forward passes that run in this thread, the innermost last: each has what `_all_at_once` made for it.

    A copy, and what a pickle gives, begins without any.
    """

    def __init__(self) -> None:
        self.running: list[dict[int, Tensor]] = []
        self.grad: list[bool] = []
        self.layouts: dict[Any, Any] = {}

    def __reduce__(self) -> tuple[type["Passes"], tuple[()]]:
        return Passes, ()

    def made(self, layer: nn.Module) -> Tensor | None:
        """The weight that the running pass made for this layer, if it may be used here."""
        if not self.running or not self.running[-1]:
            return None
        if torch.is_grad_enabled() and not self.grad[-1]:
            return None
        if _saving_hooks():  # a recomputed block finds no pass; it must save the same tensors both times
            return None
        return self.running[-1].get(id(layer))


def begin_pass(model: nn.Module, _inputs: Any) -> None:
    """The network's forward pre-hook."""
    if composed():
        return
    passes = _passes(model)
    passes.running.append({} if getattr(model, "_is_replica", False) else _all_at_once(model, passes))
    passes.grad.append(torch.is_grad_enabled())


def end_pass(model: nn.Module, _inputs: Any, _output: Any) -> None:
    """The network's forward hook, called after an exception as well."""
    if composed():
        return
    passes = _passes(model)
    if passes.running:
        passes.running.pop()
        passes.grad.pop()


def _passes(model: nn.Module) -> Passes:
    found = model._low_bit_passes
    assert isinstance(found, Passes)
    return found


def add_passes(model: nn.Module) -> Passes:
    """Puts the hooks on a network."""
    passes = Passes()
    model.__dict__["_low_bit_passes"] = passes
    model.register_forward_pre_hook(begin_pass)
    model.register_forward_hook(end_pass, always_call=True)
    return passes


def remove_passes(model: nn.Module) -> None:
    """Takes them off."""
    model.__dict__.pop("_low_bit_passes", None)
    for key in [key for key, hook in model._forward_pre_hooks.items() if hook is begin_pass]:
        del model._forward_pre_hooks[key]
    for key in [key for key, hook in model._forward_hooks.items() if hook is end_pass]:
        del model._forward_hooks[key]
        model._forward_hooks_always_called.pop(key, None)


def _all_at_once(model: nn.Module, passes: Passes) -> dict[int, Tensor]:
    """The quantized weights by the layers' ids; none where the kernels do not take them."""
    if not _on_gpu(model):
        return {}
    layers: list[Any] = [
        m for m in model.modules() if isinstance(m.__dict__.get("_passes"), Passes) and m.flat
    ]
    if not layers or not fits([layer.float_weight() for layer in layers]):
        return {}
    found: dict[int, Tensor] = {}
    for name in {layer.weight_method: None for layer in layers}:
        some = [layer for layer in layers if layer.weight_method == name]
        together = METHODS[name].weights.together
        assert together is not None  # else they would not be flat
        weights = together(some, some[0].computing_type(), passes.layouts)
        found |= {id(layer): weight for layer, weight in zip(some, weights, strict=True)}
    return found


def _on_gpu(model: nn.Module) -> bool:
    """Whether the first parameter lies on a GPU: the others are asked only then."""
    first = next(model.parameters(), None)
    return first is not None and first.is_cuda


def _saving_hooks() -> bool:
    """Whether saved tensors go through hooks, as within a block of `torch.utils.checkpoint`."""
    found = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return found is not None
