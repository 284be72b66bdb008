"""How the operators of an exported PyTorch graph are written in ONNX; one function each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rolewise.errors import InputError
from rolewise.pretrained.onnx_graph import Graph


@dataclass(frozen=True)
class Call:
    """One operator of the PyTorch graph.

    Args:
        graph: takes the nodes.
        place: path of the module that called it.
        a: its arguments by name, defaults filled in; tensors are names of ONNX values.
        shapes: of the tensor arguments by name; a free batch size is -1.
        result: shape of the result.
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


Operator = Callable[[Call], str]


def _pair(value: Any) -> list[int]:
    found = [int(one) for one in value] if isinstance(value, list | tuple) else [int(value)]
    return found * 2 if len(found) == 1 else found


def _refuse(call: Call, what: str) -> InputError:
    where = f' in "{call.place}"' if call.place else ""
    return InputError(f"ONNX export: {what}{where} is not supported.")


def conv2d(call: Call) -> str:
    a = call.a
    if isinstance(a["padding"], str):
        raise _refuse(call, f'padding="{a["padding"]}" of a convolution')
    inputs = [a["input"], a["weight"]] + ([a["bias"]] if a["bias"] is not None else [])
    return call.add(
        "Conv",
        *inputs,
        kernel_shape=list(call.shapes["weight"][2:]),
        strides=_pair(a["stride"]),
        pads=_pair(a["padding"]) * 2,
        dilations=_pair(a["dilation"]),
        group=int(a["groups"]),
    )


def linear(call: Call) -> str:
    a = call.a
    bias = [a["bias"]] if a["bias"] is not None else []
    if len(call.shapes["input"]) == 2:
        return call.add("Gemm", a["input"], a["weight"], *bias, transB=1)
    product = call.add("MatMul", a["input"], call.add("Transpose", a["weight"], perm=[1, 0]))
    return call.add("Add", product, *bias) if bias else product


def batch_norm(call: Call) -> str:
    a, graph, width = call.a, call.graph, call.shapes["input"][1]
    if a["running_mean"] is None:
        raise _refuse(call, "BatchNorm without running statistics")
    scale = a["weight"] or graph.constant(np.ones(width, np.float32), "ones")
    shift = a["bias"] or graph.constant(np.zeros(width, np.float32), "zeros")
    inputs = (a["input"], scale, shift, a["running_mean"], a["running_var"])
    return call.add("BatchNormalization", *inputs, epsilon=float(a["eps"]))


def _pool(call: Call, kind: str, **attributes: Any) -> str:
    a = call.a
    return call.add(
        kind,
        a["self"],
        kernel_shape=_pair(a["kernel_size"]),
        strides=_pair(a["stride"] or a["kernel_size"]),
        pads=_pair(a["padding"]) * 2,
        ceil_mode=int(bool(a["ceil_mode"])),
        **attributes,
    )


def max_pool2d(call: Call) -> str:
    return _pool(call, "MaxPool", dilations=_pair(call.a["dilation"]))


def avg_pool2d(call: Call) -> str:
    if call.a.get("divisor_override") is not None:
        raise _refuse(call, "`divisor_override` of an average pool")
    return _pool(call, "AveragePool", count_include_pad=int(bool(call.a["count_include_pad"])))


def _adaptive(call: Call, kind: str) -> str:
    size, target = call.shapes["self"][2:], _pair(call.a["output_size"])
    if list(size) == target:
        return str(call.a["self"])
    if all(one % other == 0 for one, other in zip(size, target, strict=True)):
        window = [one // other for one, other in zip(size, target, strict=True)]
        return call.add(kind, call.a["self"], kernel_shape=window, strides=window)
    if all(other % one == 0 for one, other in zip(size, target, strict=True)):  # each pixel is repeated
        factors = [1.0, 1.0, *(other / one for one, other in zip(size, target, strict=True))]
        scales = call.graph.constant(np.array(factors, np.float32), "scales")
        return call.add(
            "Resize",
            call.a["self"],
            "",
            scales,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
    raise _refuse(call, f"adaptive pooling of {size[0]}x{size[1]} to {target[0]}x{target[1]}")


def mean(call: Call) -> str:
    rank = len(call.shapes["self"])
    axes = [int(axis) % rank for axis in (call.a["dim"] or range(rank))]
    return call.add(
        "ReduceMean", call.a["self"], call.graph.shape(axes), keepdims=int(bool(call.a["keepdim"]))
    )


def reshape(call: Call) -> str:
    sizes = [size if size >= 0 else (0 if index == 0 else -1) for index, size in enumerate(call.result)]
    if sizes.count(-1) > 1 or (0 in sizes and call.shapes["self"][0] >= 0):
        raise _refuse(call, f"a reshape to {call.result}")
    return call.add("Reshape", call.a["self"], call.graph.shape(sizes))


def transpose(call: Call) -> str:
    order = list(range(len(call.result)))
    first, second = call.a["dim0"] % len(order), call.a["dim1"] % len(order)
    order[first], order[second] = second, first
    return call.add("Transpose", call.a["self"], perm=order)


def permute(call: Call) -> str:
    return call.add("Transpose", call.a["self"], perm=[axis % len(call.result) for axis in call.a["dims"]])


def cat(call: Call) -> str:
    return call.add("Concat", *call.a["tensors"], axis=int(call.a["dim"]))


def _split(call: Call, sizes: Sequence[int]) -> str:
    axis = call.a["dim"]
    return call.add("Split", call.a["self"], call.graph.shape(sizes), axis=int(axis), outputs=call.parts)


def chunk(call: Call) -> str:
    total = call.shapes["self"][call.a["dim"]]
    size = math.ceil(total / call.a["chunks"])
    return _split(call, [min(size, total - size * index) for index in range(call.parts)])


def split(call: Call) -> str:
    total, size = call.shapes["self"][call.a["dim"]], call.a["split_size"]
    return _split(call, [min(size, total - size * index) for index in range(call.parts)])


def split_with_sizes(call: Call) -> str:
    return _split(call, call.a["split_sizes"])


def slice_(call: Call) -> str:
    graph, a = call.graph, call.a
    end = min(int(a["end"]), 2**31 - 1) if a["end"] is not None else 2**31 - 1
    bounds = ([int(a["start"] or 0)], [end], [int(a["dim"])], [int(a["step"])])
    return call.add("Slice", a["self"], *(graph.shape(one) for one in bounds))


def _operand(call: Call, value: Any) -> str:
    return value if isinstance(value, str) else call.graph.number(float(value))


def _binary(kind: str) -> Operator:
    def write(call: Call) -> str:
        if call.a.get("alpha", 1) != 1 or call.a.get("rounding_mode") is not None:
            raise _refuse(call, f"{kind} with `alpha` or `rounding_mode`")
        return call.add(kind, _operand(call, call.a["self"]), _operand(call, call.a["other"]))

    return write


def _unary(kind: str, **attributes: Any) -> Operator:
    return lambda call: call.add(kind, call.a["self"], **attributes)


def clip(call: Call) -> str:
    a = call.a
    bounds = [a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))]
    while bounds and bounds[-1] is None:
        bounds.pop()
    return call.add("Clip", a["self"], *("" if one is None else _operand(call, one) for one in bounds))


def silu(call: Call) -> str:
    return call.add("Mul", call.a["self"], call.add("Sigmoid", call.a["self"]))


def softmax(call: Call) -> str:
    return call.add("Softmax", call.a["self"], axis=int(call.a["dim"]))


def same(call: Call) -> str:
    return str(call.a.get("self", call.a.get("input")))


_aten = torch.ops.aten
OPERATORS: Mapping[Any, Operator] = {
    _aten.conv2d.default: conv2d,
    _aten.conv2d.padding: conv2d,
    _aten.linear.default: linear,
    _aten.batch_norm.default: batch_norm,
    _aten.relu.default: _unary("Relu"),
    _aten.relu6.default: lambda call: call.add(
        "Clip", call.a["self"], call.graph.number(0), call.graph.number(6)
    ),
    _aten.hardtanh.default: clip,
    _aten.clamp.default: clip,
    _aten.clamp_min.default: clip,
    _aten.minimum.default: _binary("Min"),
    _aten.maximum.default: _binary("Max"),
    _aten.leaky_relu.default: lambda call: call.add(
        "LeakyRelu", call.a["self"], alpha=float(call.a["negative_slope"])
    ),
    _aten.sigmoid.default: _unary("Sigmoid"),
    _aten.tanh.default: _unary("Tanh"),
    _aten.silu.default: silu,
    _aten.hardswish.default: _unary("HardSwish"),
    _aten.hardsigmoid.default: _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    _aten.softmax.int: softmax,
    _aten.round.default: _unary("Round"),
    _aten.max_pool2d.default: max_pool2d,
    _aten.avg_pool2d.default: avg_pool2d,
    _aten.adaptive_avg_pool2d.default: lambda call: _adaptive(call, "AveragePool"),
    _aten.adaptive_max_pool2d.default: lambda call: _adaptive(call, "MaxPool"),
    _aten.mean.dim: mean,
    _aten.flatten.using_ints: reshape,
    _aten.reshape.default: reshape,
    _aten.view.default: reshape,
    _aten.squeeze.dim: reshape,
    _aten.squeeze.dims: reshape,
    _aten.unsqueeze.default: reshape,
    _aten.unflatten.int: reshape,
    _aten.transpose.int: transpose,
    _aten.permute.default: permute,
    _aten.cat.default: cat,
    _aten.chunk.default: chunk,
    _aten.split.Tensor: split,
    _aten.split_with_sizes.default: split_with_sizes,
    _aten.slice.Tensor: slice_,
    _aten.add.Tensor: _binary("Add"),
    _aten.sub.Tensor: _binary("Sub"),
    _aten.mul.Tensor: _binary("Mul"),
    _aten.div.Tensor: _binary("Div"),
    _aten.dropout.default: same,
    _aten.contiguous.default: same,
    _aten.clone.default: same,
    _aten.alias.default: same,
    _aten.detach.default: same,
}
# The forms that write into their first argument.
IN_PLACE: Mapping[Any, Any] = {
    _aten.relu_.default: _aten.relu.default,
    _aten.relu6_.default: _aten.relu6.default,
    _aten.hardtanh_.default: _aten.hardtanh.default,
    _aten.clamp_.default: _aten.clamp.default,
    _aten.leaky_relu_.default: _aten.leaky_relu.default,
    _aten.silu_.default: _aten.silu.default,
    _aten.hardswish_.default: _aten.hardswish.default,
    _aten.add_.Tensor: _aten.add.Tensor,
    _aten.sub_.Tensor: _aten.sub.Tensor,
    _aten.mul_.Tensor: _aten.mul.Tensor,
    _aten.div_.Tensor: _aten.div.Tensor,
    _aten.dropout_.default: _aten.dropout.default,
}
