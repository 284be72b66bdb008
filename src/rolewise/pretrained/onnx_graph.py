"""An ONNX graph under construction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from rolewise.errors import InputError
from rolewise.pretrained.low_bit import OPENVINO_DOMAIN, STORAGE, LowBitForm, OpenVinoForm

IR_VERSIONS = {21: 10, 25: 13}  # the first ones that have the opset's types


class Graph:
    """Nodes and initializers. A value bears the name of the node that makes it: `layer1.0.conv1/Conv`.

    Args:
        opset: version of the default domain.
        form: writer of the quantized weights and activations.
    """

    def __init__(self, opset: int, form: LowBitForm) -> None:
        self.opset, self.form = opset, form
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.rounds: set[str] = set()  # the nodes that round activations to their levels
        self._names: set[str] = set()
        self._same: dict[tuple[str, str, bytes], str] = {}

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
        """An initializer; equal scalars, shapes and tables are kept once."""
        if value.size <= 8:
            key = f"{value.dtype}{list(value.shape)}={value.reshape(-1).tolist()}"
            if key not in self.initializers:
                self.initializers[key] = numpy_helper.from_array(value, key)
            return key
        if value.size > 2048:
            return self.named(value, name)
        content = (str(value.dtype), str(value.shape), value.tobytes())
        if content not in self._same:
            self._same[content] = self.named(value, name)
        return self._same[content]

    def named(self, value: npt.NDArray[Any], name: str) -> str:
        """An initializer that keeps its name, however small it is."""
        name = self.fresh(name)
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32), "number")

    def shape(self, sizes: Sequence[int]) -> str:
        """A list of int64."""
        return self.constant(np.array(sizes, np.int64), "shape")

    def raw(self, name: str, data_type: int, shape: list[int], data: bytes) -> str:
        """An initializer of a type that NumPy lacks."""
        name = self.fresh(name)
        self.initializers[name] = TensorProto(name=name, data_type=data_type, dims=shape, raw_data=data)
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
        domains = [helper.make_opsetid("", self.opset)]
        if isinstance(self.form, OpenVinoForm):
            domains.append(helper.make_opsetid(OPENVINO_DOMAIN, 1))
        model = helper.make_model(graph, opset_imports=domains)
        model.ir_version = next(ir for opset, ir in reversed(IR_VERSIONS.items()) if opset <= self.opset)
        model.producer_name, model.producer_version = "rolewise", producer
        return model

    def unrounded(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """What `finish` made, with activations clipped and not rounded."""
        found = onnx.ModelProto()
        found.CopyFrom(model)
        for node in found.graph.node:
            if node.name in self.rounds and node.op_type == "Round":
                node.op_type = "Identity"
            elif node.name in self.rounds:  # FakeQuantize: its input bounds clip
                node.op_type, node.domain = "Clip", ""
                del node.input[3:], node.attribute[:]
        return found


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
