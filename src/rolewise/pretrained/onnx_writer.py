"""Walks over an exported program and writes it as an ONNX graph."""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from rolewise.errors import InputError
from rolewise.pretrained.onnx_call import Call
from rolewise.pretrained.onnx_graph import Graph
from rolewise.pretrained.onnx_operators import FIRST_ONLY, OPERATORS
from rolewise.quant.layers import QuantizedWeight


def write_program(model: nn.Module, program: torch.export.ExportedProgram, graph: Graph) -> tuple[str, int]:
    """Writes a network into `graph`; returns the name of its result and the number of classes.

    Args:
        model: the `inference_copy` that was traced.
        program: its functional graph.
        graph: the graph that takes the nodes.

    Raises:
        InputError: an operator that has no translation, or a network that does not return logits alone.
    """
    writer = _Writer(model, program, graph)
    for node in program.graph.nodes:
        writer.visit(node)
    if writer.result is None or len(writer.result[1]) != 2:
        raise InputError(
            "Export: the network must return one tensor of logits, (n, k). Wrap it in a module that does."
        )
    return writer.result[0], writer.result[1][1]


class _Writer:
    """The values written so far."""

    def __init__(self, model: nn.Module, program: torch.export.ExportedProgram, graph: Graph) -> None:
        self.graph, self.program = graph, program
        # A module that is registered twice is known by both names.
        self.layers = {
            name: module
            for name, module in model.named_modules(remove_duplicate=False)
            if isinstance(module, QuantizedWeight)
        }
        self.values: dict[fx.Node, str] = {}
        self.weights: dict[str, str] = {}
        self.result: tuple[str, tuple[int, ...]] | None = None
        signature = program.graph_signature
        self.tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.tensors.update(signature.inputs_to_lifted_tensor_constants)
        self.outputs = set(signature.user_outputs)

    def visit(self, node: fx.Node) -> None:
        """Writes one node."""
        if node.op == "placeholder":
            if node.name not in self.tensors:
                self.values[node] = "images"
        elif node.op == "output":
            self._output(node)
        elif node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node)
            several = len(source.meta["val"]) > 1 and source.target not in FIRST_ONLY
            self.values[node] = f"{self._value(source)}:{index}" if several else self._value(source)
        elif node.op == "call_function" and not isinstance(node.meta.get("val"), torch.SymInt | int):
            self._call(node)

    def _output(self, node: fx.Node) -> None:
        # Buffers that the network changes in eval mode come as outputs too: a file has no memory.
        given = node.args[0] if isinstance(node.args[0], list | tuple) else (node.args[0],)
        own = [one for one in given if isinstance(one, fx.Node) and one.name in self.outputs]
        if len(own) == 1 and _is_tensor(own[0]):
            self.result = self._value(own[0]), _shape(own[0].meta["val"])

    def _value(self, node: Any) -> str:
        """The ONNX value of a tensor; weights are written when they are first used."""
        if node in self.values:
            return self.values[node]
        name = self.tensors[node.name]
        if name not in self.weights:
            layer = self.layers.get(name.removesuffix(".weight"))
            if layer is not None and layer.grid is not None and name.endswith(".weight"):
                codes = layer.grid.encode(layer.weight).numpy()
                self.weights[name] = self.graph.form.weight(self.graph, codes, layer.grid, name)
            else:
                found = self.program.state_dict.get(name, self.program.constants.get(name))
                assert isinstance(found, Tensor)
                self.weights[name] = self.graph.constant(found.detach().numpy(), name)
        return self.weights[name]

    def _call(self, node: fx.Node) -> None:
        target: Any = node.target
        place = _place(node)
        if target not in OPERATORS:
            where = f' in "{place}"' if place else ""
            raise InputError(f"Export: the operator {target}{where} has no translation.")
        names = [argument.name for argument in target._schema.arguments]
        given = {argument.name: argument.default_value for argument in target._schema.arguments}
        given.update(zip(names, node.args, strict=False))
        given.update(node.kwargs)
        shapes = {
            key: _shape(one.meta["val"])
            for key, one in given.items()
            if isinstance(one, fx.Node) and _is_tensor(one)
        }
        arguments = {key: self._argument(one) for key, one in given.items()}
        value = node.meta["val"]
        several = isinstance(value, list | tuple)
        shape = _shape(value[0] if several else value)
        parts = len(value) if several and target not in FIRST_ONLY else 1
        self.values[node] = OPERATORS[target](Call(self.graph, place, arguments, shapes, shape, parts))

    def _argument(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._value(value) if _is_tensor(value) else value.meta["val"]
        if isinstance(value, list | tuple):
            return [self._argument(one) for one in value]
        return value


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _shape(value: Tensor) -> tuple[int, ...]:
    """The shape; the free batch size is -1."""
    return tuple(size if isinstance(size, int) else -1 for size in value.shape)


def _place(node: fx.Node) -> str:
    """The path of the innermost module that was running."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]) if paths else ""
