"""The graph of a network for export: `torch.export`, made functional, with each activation quantizer as one operator.

Functional means that no operator writes into its arguments: what a network does in place, also through views and
aliases, comes as new values.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rolewise.errors import InputError, first_line
from rolewise.quant import decode_weights
from rolewise.quant.activations import (
    OutputQuantizer,
    QuantizedActivation,
    activation_bits,
    quantized_activations,
)
from rolewise.quant.layers import QuantizedWeight, quantized_weights
from rolewise.quant.method import METHODS


@torch.library.custom_op("rolewise::quantize_activation", mutates_args=())
def quantize_activation_(x: Tensor, bits: int, step: float | None, rounds: bool) -> Tensor:
    """Levels 0 to n = 2^bits - 1 times `step`; without a step round(n clip(x, 0, 1)) / n, DoReFa's arithmetic.

    Without `rounds` the value before the rounding: what a file is compared with, for a sum in another order may round
    to another level.
    """
    n = (1 << bits) - 1
    scaled = x.clamp(0, 1).mul(n) if step is None else x.div(step).clamp(0, n)
    if rounds:
        scaled = scaled.round()
    return scaled.div(n) if step is None else scaled.mul(step)


@quantize_activation_.register_fake
def _(x: Tensor, bits: int, step: float | None, rounds: bool) -> Tensor:
    return torch.empty_like(x)


class TracedActivation(QuantizedActivation):
    """Takes the place of a `QuantizedActivation` in the copy that is exported."""

    def forward(self, input: Tensor) -> Tensor:
        return _traced(self, input, self.act_bits, bool(getattr(self, "inplace", False)))


class TracedOutput(OutputQuantizer):
    """The same for the forward hook of any other act point."""

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Tensor:
        in_place = bool(getattr(module, "inplace", False)) and bool(inputs) and output is inputs[0]
        return _traced(module, output, self.bits, in_place)


def _traced(module: nn.Module, x: Tensor, bits: int, in_place: bool) -> Tensor:
    step, rounds = (getattr(module, name) for name in ("level_step", "rounds"))
    found: Tensor = quantize_activation_(x, bits, step, rounds)
    return x.copy_(found) if in_place else found


def plain_module(model: nn.Module) -> nn.Module:
    """The network within `torch.compile`, `DataParallel` or `DistributedDataParallel`; any other as it is."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := model.__dict__.get("_modules", {}).get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def copy_module(model: nn.Module) -> nn.Module:
    """A copy of the network within `plain_module`, also of one whose hooks leave computed tensors as attributes."""
    model = plain_module(model)
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(model, computed)


def inference_copy(model: nn.Module) -> nn.Module:
    """A copy for export: float32, eval mode, decoded weights, activation quantizers as traceable operators.

    Raises:
        InputError: a quantized layer whose weight a hook recomputes.
    """
    check_own_weights(plain_module(model))
    low = copy_module(model).cpu().float().eval()
    taken: set[int] = set()
    for layer in quantized_weights(low).values():
        if id(layer.weight) in taken:  # tied: the levels of one layer must not become the floats of another
            layer.weight = nn.Parameter(layer.weight.detach().clone())
        taken.add(id(layer.weight))
    _untie_floats(low, taken)
    decode_weights(low)
    for module in quantized_activations(low).values():
        bits, method = activation_bits(module)
        quantizer = METHODS[method].activations
        step = None if quantizer.unit else quantizer.step(module, bits)
        module.level_step, module.rounds = step, True  # type: ignore[assignment]
        if isinstance(module, QuantizedActivation):
            module.__class__ = TracedActivation
            continue
        hooks = module._forward_hooks
        for key in [key for key, hook in hooks.items() if isinstance(hook, OutputQuantizer)]:
            hooks[key] = TracedOutput(bits, method)
    return low


def _untie_floats(model: nn.Module, taken: set[int]) -> None:
    """Gives each float layer that shares the weight of a quantized one a weight of its own."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in taken and not (name == "weight" and isinstance(module, QuantizedWeight)):
                setattr(module, name, nn.Parameter(parameter.detach().clone()))


def check_own_weights(model: nn.Module) -> None:
    """Checks that each quantized layer's `weight` is its parameter.

    Raises:
        InputError: pruning, `weight_norm` or `spectral_norm` recompute it in every forward pass.
    """
    for name, layer in quantized_weights(model).items():
        if "weight" not in layer._parameters:
            raise InputError(
                f'The weight of "{name}" is recomputed in each forward pass (torch.nn.utils.prune, weight_norm or '
                f"spectral_norm), so its levels cannot be stored. Make it permanent first, as "
                f'torch.nn.utils.prune.remove(module, "weight") does.'
            )


class _PlainDropout(TorchFunctionMode):
    """Makes every dropout outside of training return its input itself, as PyTorch does.

    torch.export takes it for a copy: what is written in place behind it would be lost to other readers of the input.
    """

    _FUNCTIONS = frozenset(
        getattr(F, name)
        for name in (
            "dropout",
            "dropout1d",
            "dropout2d",
            "dropout3d",
            "alpha_dropout",
            "feature_alpha_dropout",
        )
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._FUNCTIONS:
            given = dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
            if given.get("training", func not in _QUIET) is False:
                return given["input"]
        return func(*args, **kwargs)


_QUIET = (F.alpha_dropout, F.feature_alpha_dropout)  # whose `training` is False by default


def set_rounding(model: nn.Module, rounds: bool) -> None:
    """Switches the rounding of an `inference_copy`'s activations."""
    for module in quantized_activations(model).values():
        module.rounds = rounds  # type: ignore[assignment]


def image_channels(model: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution; 3 without one."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


def trace(model: nn.Module, image_size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The functional graph of an `inference_copy`, for (n, c, h, w) with n free.

    Raises:
        InputError: torch.export cannot trace the network.
    """
    example = torch.zeros(2, image_channels(model), *image_size)
    try:
        batch = torch.export.Dim("n")
        with warnings.catch_warnings(), _PlainDropout():
            warnings.simplefilter("ignore", FutureWarning)  # of PyTorch, about PyTorch's own use of pytrees
            program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},), strict=False)
            functional: torch.export.ExportedProgram = program.run_decompositions({})
            return functional
    except Exception as error:  # torch.export fails in many ways, all of them about the user's network
        reason = first_line(error)
        raise InputError(f"Export: torch.export cannot trace {type(model).__name__}: {reason}") from error
