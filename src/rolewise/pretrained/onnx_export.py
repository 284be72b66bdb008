"""ONNX files with low-bit weights that really are small.

PyTorch's own exporter would fold the quantized weights back to float32. Here `torch.export` gives the graph and each
operator is written by hand, so that a quantized weight stays packed codes behind a `DequantizeLinear`.
"""

import copy
import hashlib
import operator
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, fx, nn

from rolewise._version import __version__
from rolewise.errors import InputError
from rolewise.pretrained.description import FORMAT, FORMAT_VERSION, canonical, check_extra, describe_model
from rolewise.pretrained.onnx_graph import STORAGE, Graph, check_opset
from rolewise.pretrained.onnx_operators import IN_PLACE, OPERATORS, Call
from rolewise.quant import bare_graph, decode_weights
from rolewise.quant.layers import quantized_weights
from rolewise.runs import write_atomic

STATED, SEAL = "rolewise", "rolewise.sha256"


def export_onnx(
    model: nn.Module,
    path: Path,
    *,
    image_size: tuple[int, int] = (32, 32),
    opset: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Writes one file: normalised `images` (n, 3, h, w) in, `logits` (n, k) out, n free.

    Weights of 2 bits or less are stored as UINT2 (opset 25), of 3 and 4 bits as UINT4 (opset 21), of 5 to 8 bits as
    UINT8.

    Args:
        model: any network of convolutions, linear layers, BatchNorm, pooling and the usual activations.
        path: where to write.
        image_size: height and width; they are fixed in the file.
        opset: None takes 25 if there are weights of 2 bits or less and both the installed onnx and onnxruntime
            handle UINT2, else 21.
        extra: more to keep in the file's metadata, JSON.

    Raises:
        InputError: an operator that has no translation, or an opset that is too old or too new.
    """
    low = copy.deepcopy(model).cpu().float().eval()
    narrow = (
        min((layer.weight_bits for layer in quantized_weights(low).values()), default=32)
        <= STORAGE["UINT2"][0]
    )
    if opset is None:
        opset = STORAGE["UINT2" if narrow and supports("UINT2") else "UINT4"][1]
    check_opset(opset)
    stated = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "form": "onnx",
        **describe_model(low),
        "image_size": list(image_size),
        "extra": check_extra(extra),
    }
    decode_weights(low)
    graph = Graph(opset, "UINT2" if opset >= STORAGE["UINT2"][1] else "UINT4")
    result, classes = _translate(low, graph, image_size)
    made = graph.finish(result, [3, *image_size], classes, __version__)
    onnx.helper.set_model_props(made, {STATED: canonical(stated)})
    onnx.checker.check_model(made, full_check=True)
    write_atomic(path, seal(made.SerializeToString(deterministic=True)))
    return path


def seal(data: bytes) -> bytes:
    """Adds the SHA-256 of all before it. Protobuf reads what is appended as one more entry of the metadata."""
    return data + _seal(hashlib.sha256(data).hexdigest())


def _seal(digest: str) -> bytes:
    model = onnx.ModelProto()
    onnx.helper.set_model_props(model, {SEAL: digest})
    return bytes(model.SerializeToString(deterministic=True))


SEAL_BYTES = len(_seal("0" * 64))


@lru_cache
def supports(kind: str) -> bool:
    """Whether the installed onnx and onnxruntime handle weights of this type: a file of one layer is made and run."""
    try:
        import onnxruntime

        check_opset(STORAGE[kind][1])
        graph = Graph(STORAGE[kind][1], kind)
        from rolewise.quant import Grid

        codes = np.array([[0, 1], [2, 3]], np.uint8)
        weight = graph.low_bit(codes, Grid(2, scale=2 / 3, shift=1.0), "weight")
        made = graph.finish(graph.add("Gemm", ["images", weight], "probe", transB=1), [2], 2, __version__)
        onnx.checker.check_model(made, full_check=True)
        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"images": np.eye(2, dtype=np.float32)})
        return bool(np.allclose(found, [[-1, 1 / 3], [-1 / 3, 1]], atol=1e-6))
    except Exception:  # an older runtime may refuse in any way it likes
        return False


def _translate(model: nn.Module, graph: Graph, image_size: tuple[int, int]) -> tuple[str, int]:
    """Writes the network into `graph`; returns the name of its result and the number of classes."""
    example = torch.zeros(2, 3, *image_size)
    try:
        batch = torch.export.Dim("n")
        with bare_graph():
            program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},), strict=False)
    except Exception as error:  # torch.export fails in many ways, all of them about the user's network
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"ONNX export: torch.export cannot trace {type(model).__name__}: {reason}"
        ) from error
    writer = _Writer(model, graph, program)
    for node in program.graph.nodes:
        writer.visit(node)
    if writer.result is None or len(writer.result[1]) != 2:
        raise InputError("ONNX export: the network must return one tensor of logits, (n, k).")
    return writer.result[0], writer.result[1][1]


class _Writer:
    """Walks over the nodes of an exported program."""

    def __init__(self, model: nn.Module, graph: Graph, program: torch.export.ExportedProgram) -> None:
        self.graph, self.program = graph, program
        self.layers = quantized_weights(model)
        self.values: dict[fx.Node, str] = {}
        self.weights: dict[str, str] = {}
        self.result: tuple[str, tuple[int, ...]] | None = None
        signature = program.graph_signature
        self.tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.tensors.update(signature.inputs_to_lifted_tensor_constants)

    def visit(self, node: fx.Node) -> None:
        """Writes one node."""
        if node.op == "placeholder":
            if node.name not in self.tensors:
                self.values[node] = "images"
        elif node.op == "output":
            (output,) = node.args[0] if isinstance(node.args[0], list | tuple) else (node.args[0],)
            assert isinstance(output, fx.Node)
            self.result = self._value(output), _shape(output)
        elif node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node)
            several = isinstance(source.meta["val"], list | tuple) and source.target not in _FIRST_ONLY
            self.values[node] = f"{self._value(source)}:{index}" if several else self._value(source)
        elif node.op == "call_function" and not isinstance(node.meta.get("val"), torch.SymInt | int):
            self._call(node)

    def _value(self, node: Any) -> str:
        """The ONNX value of a tensor; weights are written when they are first used."""
        if node in self.values:
            return self.values[node]
        name = self.tensors[node.name]
        if name not in self.weights:
            layer = self.layers.get(name.removesuffix(".weight"))
            if layer is not None and layer.grid is not None and name.endswith(".weight"):
                codes = layer.grid.encode(layer.weight).numpy()
                self.weights[name] = self.graph.low_bit(codes, layer.grid, name)
            else:
                found = self.program.state_dict.get(name, self.program.constants.get(name))
                assert isinstance(found, Tensor)
                self.weights[name] = self.graph.constant(found.detach().numpy(), name)
        return self.weights[name]

    def _call(self, node: fx.Node) -> None:
        target = IN_PLACE.get(node.target, node.target)
        place = _place(node)
        if target not in OPERATORS:
            where = f' in "{place}"' if place else ""
            raise InputError(f"ONNX export: the operator {target}{where} has no translation.")
        names = [argument.name for argument in target._schema.arguments]
        given = {argument.name: argument.default_value for argument in target._schema.arguments}
        given.update(zip(names, node.args, strict=False))
        given.update(node.kwargs)
        shapes = {
            key: _shape(one) for key, one in given.items() if isinstance(one, fx.Node) and _is_tensor(one)
        }
        arguments = {key: self._argument(one) for key, one in given.items()}
        value = node.meta["val"]
        parts = len(value) if isinstance(value, list | tuple) else 1
        shape = _shape(node) if parts == 1 else ()
        self.values[node] = OPERATORS[target](Call(self.graph, place, arguments, shapes, shape, parts))
        if node.target in IN_PLACE:  # whoever reads the argument from here on sees the result
            changed = node.args[0]
            assert isinstance(changed, fx.Node)
            self.values[changed] = self.values[node]

    def _argument(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._value(value) if _is_tensor(value) else value.meta["val"]
        if isinstance(value, list | tuple):
            return [self._argument(one) for one in value]
        return value


_FIRST_ONLY = {torch.ops.aten.adaptive_max_pool2d.default}  # gives indices too, which nobody asks for


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _shape(node: fx.Node) -> tuple[int, ...]:
    """The shape; the free batch size is -1."""
    return tuple(size if isinstance(size, int) else -1 for size in node.meta["val"].shape)


def _place(node: fx.Node) -> str:
    """The path of the innermost module that was running."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]) if paths else ""
