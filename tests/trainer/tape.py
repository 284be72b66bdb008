"""A stand-in for a CUDA graph on any machine: operations are recorded once and repeated on the same memory.

Like a graph, a tape holds the operations and the memory, no Python: whatever a step takes from the host, a number that
was read from a tensor or a branch that was taken, stays as it was when the step was recorded.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations that wait for the device, or whose output's shape follows from the data.
WAITING = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_static", "argwhere", "masked_select",
    "_unique2", "unique_dim", "unique_consecutive", "bincount", "histc", "multinomial", "_linalg_eigh", "_linalg_svd",
    "linalg_eig", "linalg_qr", "geqrf", "allclose", "_assert_async",
}  # fmt: skip


def tensors_of(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def name_of(operation: Any) -> str:
    return str(operation).split(".")[1]


class Tape(TorchDispatchMode):
    """Records every operation, its inputs and outputs; the tensors are kept alive."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        self.entries.append((function, args, kwargs, tensors_of(result)))
        return result

    @property
    def names(self) -> list[str]:
        return [name_of(function) for function, *_ in self.entries]

    @property
    def trace(self) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
        """What was done to tensors of which shapes: all that may not depend on the data."""
        return [
            (
                name_of(function),
                tuple(tuple(tensor.shape) for tensor in (*tensors_of((args, kwargs)), *results)),
            )
            for function, args, kwargs, results in self.entries
        ]

    def waits(self) -> set[str]:
        """Operations that no graph can hold, including reads by a mask, whose output's size is its number of hits."""
        found = WAITING & set(self.names)
        for function, args, *_ in self.entries:
            if name_of(function) in ("index", "index_put", "index_put_"):
                found |= {
                    "index by a mask"
                    for mask in tensors_of(args[1])
                    if mask.dtype in (torch.bool, torch.uint8)
                }
        return found

    @torch.no_grad()
    def replay(self) -> None:
        """Everything once more, each result written where the first one lies."""
        for function, args, kwargs, results in self.entries:
            if function.is_view or name_of(function) in ("detach", "alias", "lift_fresh"):
                continue
            again = tensors_of(function(*args, **kwargs))
            for old, new in zip(results, again, strict=True):
                if old is not new and old.numel() and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
