"""One operator of a PyTorch graph, as the functions that write ONNX see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rolewise.errors import InputError
from rolewise.pretrained.onnx_graph import Graph


@dataclass(frozen=True)
class Call:
    """One operator of the PyTorch graph.

    Args:
        graph: the graph that takes the nodes.
        place: path of the module that called it.
        a: arguments by name, defaults filled in; tensors are names of ONNX values.
        shapes: shapes of the tensor arguments by name; a free batch size is -1.
        result: shape of the result, of the first one where there are several.
        parts: number of the results of an operator that gives several.
    """

    graph: Graph
    place: str
    a: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    result: tuple[int, ...]
    parts: int = 1

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One ONNX node."""
        return self.graph.add(kind, inputs, self.place, **attributes)

    def axes(self, key: str, rank: int) -> list[int]:
        """An argument of one dimension or several (none: all) as indices from 0."""
        value = self.a[key]
        if value is None or value == []:
            return list(range(rank))
        return [int(axis) % rank for axis in (value if isinstance(value, list | tuple) else [value])]

    def reshaped(self, value: str, sizes: tuple[int, ...]) -> str:
        """`value` in another shape; one size may be -1, the free one."""
        if list(sizes).count(-1) > 1 or (-1 in sizes and 0 in sizes):
            raise refuse(self, f"a reshape to {sizes}")
        return self.add("Reshape", value, self.graph.shape(sizes))


Operator = Callable[[Call], str]


def refuse(call: Call, what: str) -> InputError:
    """The error for a form of an operator that is not written."""
    where = f' in "{call.place}"' if call.place else ""
    return InputError(f"Export: {what}{where} is not supported.")


def spread(value: Any, rank: int) -> list[int]:
    """One integer or several, as one for each of `rank` dimensions."""
    found = [int(one) for one in value] if isinstance(value, list | tuple) else [int(value)]
    return found * rank if len(found) == 1 else found
