"""The moments of an optimizer as tensors by name: a checkpoint's, and those of a peer that an objective trains."""

import torch
from torch import Tensor, nn

from rolewise.errors import InputError


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of every parameter themselves, named by the parameter's position."""
    tensors: dict[str, Tensor] = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
    return tensors


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], *, in_place: bool = False
) -> None:
    """Takes back `optimizer_tensors`: in place where a moment exists, in the parameter's memory format where not.

    Args:
        optimizer: the optimizer.
        tensors: moments by name; none before the first step.
        in_place: True sets moments that `tensors` lack to zero, False drops them; the next step is the same.
    """
    parameters = _parameters(optimizer)
    if in_place:
        for name, moment in optimizer_tensors(optimizer).items():
            if name not in tensors:
                moment.zero_()
    elif not tensors:
        optimizer.state.clear()
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        if not int(index) < len(parameters):
            raise InputError(f"The saved optimizer has more parameters than this one ({len(parameters)}).")
        parameter = parameters[int(index)]
        slot = optimizer.state[parameter]
        if key not in slot:
            like = parameter if value.shape == parameter.shape else value.to(parameter.device)
            slot[key] = torch.empty_like(like, dtype=value.dtype)
        slot[key].copy_(value)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
