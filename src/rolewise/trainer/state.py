"""The whole state of a training: tensors and a few numbers; the same form in memory, on disk and between processes."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save
from torch import Tensor, nn

from rolewise.errors import InputError


@dataclass
class State:
    """A training's state.

    Args:
        tensors: names such as "model.conv1.weight", "optimizer.0.momentum_buffer", "objective....", "sums".
        info: numbers and texts that JSON can hold (epoch, step, ...).
    """

    tensors: dict[str, Tensor]
    info: dict[str, Any]

    def to_bytes(self) -> bytes:
        """As one safetensors file whose metadata hold `info`."""
        return safetensors_save(self.tensors, metadata={"info": json.dumps(self.info, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """From `to_bytes`."""
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return cls(safetensors_load(data), json.loads(header["__metadata__"]["info"]))

    def host(self) -> "State":
        """With all tensors contiguous on the CPU; what is so already is not copied.

        From a GPU they come through pinned memory on a stream of its own, so that training continues meanwhile.
        """
        away = {name: tensor for name, tensor in self.tensors.items() if tensor.device.type != "cpu"}
        if not away:
            return State({name: tensor.contiguous() for name, tensor in self.tensors.items()}, self.info)
        device = next(iter(away.values())).device
        with torch.cuda.device(device):  # pinning opens a context on the thread's current GPU
            copies = {
                name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                for name, tensor in away.items()
            }
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for name, tensor in away.items():
                copies[name].copy_(tensor, non_blocking=True)
        stream.synchronize()
        return State({name: copies.get(name, tensor) for name, tensor in self.tensors.items()}, self.info)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix.`, without it."""
        start = prefix + "."
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def plain(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU that shares no memory with the training."""
    return tensor.detach().to("cpu", copy=True).contiguous()


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


def load_model(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Takes back a network's tensors, in place."""
    model.load_state_dict(tensors, strict=True)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
