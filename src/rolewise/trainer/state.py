"""The whole state of a training: tensors and a few numbers; the same form in memory, on disk and between processes."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save
from torch import Tensor


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
