"""An ONNX graph under construction, and low-bit weights in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from rolewise.errors import InputError
from rolewise.pretrained.packing import pack
from rolewise.quant import Grid

# What an exporter writes codes as: type name, bits of a packed element, opset from which DequantizeLinear takes it.
STORAGE = {"UINT2": (2, 25), "UINT4": (4, 21), "UINT8": (8, 21)}
IR_VERSIONS = {21: 10, 25: 13}  # the first ones that have the opset's types


class Graph:
    """Nodes and initializers. A value bears the name of the node that makes it: `layer1.0.conv1/Conv`.

    Args:
        opset: of the default domain.
        storage: the narrowest type for codes, a key of `STORAGE`.
    """

    def __init__(self, opset: int, storage: str) -> None:
        self.opset, self.storage = opset, storage
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def fresh(self, name: str) -> str:
        """`name`, or with a number behind it if that is taken."""
        chosen, count = name, 1
        while chosen in self._names:
            count += 1
            chosen = f"{name}.{count}"
        self._names.add(chosen)
        return chosen

    def add(
        self, kind: str, inputs: Sequence[str], place: str, *, outputs: int = 1, **attributes: Any
    ) -> str:
        """Adds a node and returns its output; of several outputs, `NAME:0`, `NAME:1`, ..., it returns NAME."""
        name = self.fresh(f"{place}/{kind}" if place else kind)
        made = [name] if outputs == 1 else [f"{name}:{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=name, **attributes))
        return name

    def constant(self, value: npt.NDArray[Any], name: str) -> str:
        """An initializer; equal scalars and shapes are kept once."""
        if value.size <= 8:
            key = f"{value.dtype}{list(value.shape)}={value.reshape(-1).tolist()}"
            if key not in self.initializers:
                self.initializers[key] = numpy_helper.from_array(value, key)
            return key
        name = self.fresh(name)
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32), "number")

    def shape(self, sizes: Sequence[int]) -> str:
        """A list of int64."""
        return self.constant(np.array(sizes, np.int64), "shape")

    def low_bit(self, codes: npt.NDArray[np.uint8], grid: Grid, name: str) -> str:
        """A weight from packed codes: DequantizeLinear, then Sub where the zero is no code."""
        kind = next(kind for kind in self._widths() if STORAGE[kind][0] >= grid.bits)
        bits = STORAGE[kind][0]
        stored = self._codes(f"{name}.codes", kind, list(codes.shape), pack(codes, bits).tobytes())
        inputs = [stored, self.number(grid.scale)]
        if grid.zero_point:
            zero = pack(np.array([grid.zero_point], np.uint8), bits).tobytes()
            inputs.append(self._codes(f"{name}.zero_point", kind, [], zero))
        value = self.add("DequantizeLinear", inputs, name)
        return value if grid.shift == 0 else self.add("Sub", [value, self.number(grid.shift)], name)

    def _widths(self) -> list[str]:
        order = list(STORAGE)
        return order[order.index(self.storage) :]

    def _codes(self, name: str, kind: str, shape: list[int], raw: bytes) -> str:
        name = self.fresh(name)
        tensor = TensorProto(name=name, data_type=getattr(TensorProto, kind), dims=shape, raw_data=raw)
        self.initializers[name] = tensor
        return name

    def finish(self, result: str, images: Sequence[int], classes: int, producer: str) -> onnx.ModelProto:
        """The model: `images` (n, c, h, w) in, `logits` (n, k) out, n free."""
        self.nodes.append(helper.make_node("Identity", [result], ["logits"], name="logits"))
        graph = helper.make_graph(
            self.nodes,
            "rolewise",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *images])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
            list(self.initializers.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = next(ir for opset, ir in reversed(IR_VERSIONS.items()) if opset <= self.opset)
        model.producer_name, model.producer_version = "rolewise", producer
        return model


def check_opset(opset: int) -> None:
    """Checks that the installed onnx knows an opset, and that it has packed codes.

    Raises:
        InputError: too old or too new.
    """
    low, high = STORAGE["UINT4"][1], onnx.defs.onnx_opset_version()
    if opset < low:
        raise InputError(f"`opset` must be at least {low}, where 4-bit weights begin, got {opset}.")
    if opset > high:
        raise InputError(
            f"`opset` {opset} is newer than the installed onnx {onnx.__version__} knows (up to {high})."
        )
