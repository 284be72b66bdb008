"""How the operators of an exported PyTorch graph are written in ONNX: the table, and what works element by element."""

from collections.abc import Mapping
from typing import Any

import torch

from rolewise.pretrained import onnx_layers as layers
from rolewise.pretrained import onnx_shapes as shapes
from rolewise.pretrained import tracing
from rolewise.pretrained.onnx_call import Call, Operator, refuse


def _operand(call: Call, value: Any) -> str:
    return value if isinstance(value, str) else call.graph.number(float(value))


def _binary(kind: str, *, swapped: bool = False) -> Operator:
    def write(call: Call) -> str:
        if call.a.get("alpha", 1) != 1 or call.a.get("rounding_mode") is not None:
            raise refuse(call, f"{kind} with `alpha` or `rounding_mode`")
        pair = (call.a["self"], call.a["other"])
        return call.add(kind, *(_operand(call, one) for one in (pair[::-1] if swapped else pair)))

    return write


def _unary(kind: str, **attributes: Any) -> Operator:
    return lambda call: call.add(kind, call.a["self"], **attributes)


def clip(call: Call) -> str:
    a = call.a
    bounds = [a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))]
    while bounds and bounds[-1] is None:
        bounds.pop()
    return call.add("Clip", a["self"], *("" if one is None else _operand(call, one) for one in bounds))


def clip_above(call: Call) -> str:
    return call.add("Clip", call.a["self"], "", _operand(call, call.a["max"]))


def silu(call: Call) -> str:
    return call.add("Mul", call.a["self"], call.add("Sigmoid", call.a["self"]))


def elu(call: Call) -> str:
    """scale (max(x, 0) + alpha (exp(x) - 1) below 0)."""
    if float(call.a["input_scale"]) != 1:
        raise refuse(call, "ELU with `input_scale`")
    value = call.add("Elu", call.a["self"], alpha=float(call.a["alpha"]))
    scale = float(call.a["scale"])
    return value if scale == 1 else call.add("Mul", value, call.graph.number(scale))


def celu(call: Call) -> str:
    """alpha elu(x / alpha)."""
    alpha = call.graph.number(float(call.a["alpha"]))
    inner = call.add("Div", call.a["self"], alpha)
    return call.add("Mul", call.add("Elu", inner, alpha=1.0), alpha)


def prelu(call: Call) -> str:
    slopes, rank = call.shapes["weight"][0], len(call.shapes["self"])
    slope = call.reshaped(call.a["weight"], (slopes, *[1] * max(rank - 2, 0)))
    return call.add("PRelu", call.a["self"], slope)


def softplus(call: Call) -> str:
    if float(call.a["beta"]) != 1:
        raise refuse(call, "softplus with `beta`")
    return call.add("Softplus", call.a["self"])


def softmax(kind: str) -> Operator:
    return lambda call: call.add(kind, call.a["self"], axis=int(call.a["dim"]))


def power(call: Call) -> str:
    return call.add("Pow", call.a["self"], _operand(call, call.a["exponent"]))


def same(call: Call) -> str:
    return str(call.a.get("self", call.a.get("input")))


_aten = torch.ops.aten
OPERATORS: Mapping[Any, Operator] = {
    torch.ops.rolewise.quantize_activation.default: layers.quantize_activation,
    _aten.conv1d.default: layers.conv,
    _aten.conv1d.padding: layers.conv,
    _aten.conv2d.default: layers.conv,
    _aten.conv2d.padding: layers.conv,
    _aten.conv_transpose1d.default: layers.conv_transpose,
    _aten.conv_transpose2d.input: layers.conv_transpose,
    _aten.linear.default: layers.linear,
    _aten.addmm.default: layers.addmm,
    _aten.mm.default: layers.matmul,
    _aten.bmm.default: layers.matmul,
    _aten.matmul.default: layers.matmul,
    _aten.scaled_dot_product_attention.default: layers.attention,
    _aten.batch_norm.default: layers.batch_norm,
    _aten._native_batch_norm_legit_no_training.default: layers.batch_norm,
    _aten._native_batch_norm_legit.no_stats: layers.batch_norm,
    _aten.instance_norm.default: layers.instance_norm,
    _aten.layer_norm.default: layers.layer_norm,
    _aten.group_norm.default: layers.group_norm,
    _aten.max_pool1d.default: layers.max_pool,
    _aten.max_pool2d.default: layers.max_pool,
    _aten.avg_pool1d.default: layers.avg_pool,
    _aten.avg_pool2d.default: layers.avg_pool,
    _aten.adaptive_avg_pool1d.default: layers.adaptive_avg_pool,
    _aten.adaptive_avg_pool2d.default: layers.adaptive_avg_pool,
    _aten.adaptive_max_pool1d.default: layers.adaptive_max_pool,
    _aten.adaptive_max_pool2d.default: layers.adaptive_max_pool,
    _aten.upsample_nearest2d.vec: layers.upsample_nearest,
    _aten.upsample_bilinear2d.vec: layers.upsample_bilinear,
    _aten.pad.default: layers.pad,
    _aten.constant_pad_nd.default: layers.pad,
    _aten.reflection_pad2d.default: layers.reflection_pad,
    _aten.replication_pad2d.default: layers.replication_pad,
    _aten.relu.default: _unary("Relu"),
    _aten.relu6.default: lambda call: call.add(
        "Clip", call.a["self"], call.graph.number(0), call.graph.number(6)
    ),
    _aten.hardtanh.default: clip,
    _aten.clamp.default: clip,
    _aten.clamp_min.default: clip,
    _aten.clamp_max.default: clip_above,
    _aten.minimum.default: _binary("Min"),
    _aten.maximum.default: _binary("Max"),
    _aten.leaky_relu.default: lambda call: call.add(
        "LeakyRelu", call.a["self"], alpha=float(call.a["negative_slope"])
    ),
    _aten.prelu.default: prelu,
    _aten.elu.default: elu,
    _aten.celu.default: celu,
    _aten.selu.default: _unary("Selu"),
    _aten.gelu.default: lambda call: call.add("Gelu", call.a["self"], approximate=str(call.a["approximate"])),
    _aten.mish.default: _unary("Mish"),
    _aten.softplus.default: softplus,
    _aten.sigmoid.default: _unary("Sigmoid"),
    _aten.tanh.default: _unary("Tanh"),
    _aten.silu.default: silu,
    _aten.hardswish.default: _unary("HardSwish"),
    _aten.hardsigmoid.default: _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    _aten.softmax.int: softmax("Softmax"),
    _aten._softmax.default: softmax("Softmax"),
    _aten.log_softmax.int: softmax("LogSoftmax"),
    _aten._log_softmax.default: softmax("LogSoftmax"),
    _aten.round.default: _unary("Round"),
    _aten.floor.default: _unary("Floor"),
    _aten.ceil.default: _unary("Ceil"),
    _aten.exp.default: _unary("Exp"),
    _aten.log.default: _unary("Log"),
    _aten.sqrt.default: _unary("Sqrt"),
    _aten.rsqrt.default: lambda call: call.add("Reciprocal", call.add("Sqrt", call.a["self"])),
    _aten.reciprocal.default: _unary("Reciprocal"),
    _aten.abs.default: _unary("Abs"),
    _aten.neg.default: _unary("Neg"),
    _aten.sign.default: _unary("Sign"),
    _aten.sin.default: _unary("Sin"),
    _aten.cos.default: _unary("Cos"),
    _aten.erf.default: _unary("Erf"),
    _aten.pow.Tensor_Scalar: power,
    _aten.pow.Tensor_Tensor: power,
    _aten.mean.default: shapes.reduction("ReduceMean"),
    _aten.mean.dim: shapes.reduction("ReduceMean"),
    _aten.sum.default: shapes.reduction("ReduceSum"),
    _aten.sum.dim_IntList: shapes.reduction("ReduceSum"),
    _aten.amax.default: shapes.reduction("ReduceMax"),
    _aten.amin.default: shapes.reduction("ReduceMin"),
    _aten.linalg_vector_norm.default: shapes.vector_norm,
    **dict.fromkeys(
        (
            _aten.flatten.using_ints,
            _aten.reshape.default,
            _aten.view.default,
            _aten._unsafe_view.default,
            _aten.squeeze.default,
            _aten.squeeze.dim,
            _aten.squeeze.dims,
            _aten.unsqueeze.default,
            _aten.unflatten.int,
        ),
        shapes.reshape,
    ),
    _aten.transpose.int: shapes.transpose,
    _aten.t.default: shapes.t,
    _aten.permute.default: shapes.permute,
    _aten.flip.default: shapes.flip,
    _aten.cat.default: shapes.cat,
    _aten.stack.default: shapes.stack,
    _aten.chunk.default: shapes.chunk,
    _aten.split.Tensor: shapes.split,
    _aten.split_with_sizes.default: shapes.split_with_sizes,
    _aten.slice.Tensor: shapes.slice_,
    _aten.slice_scatter.default: shapes.slice_scatter,
    _aten.select.int: shapes.select,
    _aten.select_scatter.default: shapes.select_scatter,
    _aten.expand.default: shapes.expand,
    _aten.repeat.default: shapes.repeat,
    _aten.copy.default: shapes.copy,
    _aten.pixel_shuffle.default: shapes.pixel_shuffle,
    _aten.channel_shuffle.default: shapes.channel_shuffle,
    _aten.native_channel_shuffle.default: shapes.channel_shuffle,
    **{
        overload: _binary(kind)
        for name, kind in (("add", "Add"), ("sub", "Sub"), ("mul", "Mul"), ("div", "Div"))
        for overload in (getattr(_aten, name).Tensor, getattr(_aten, name).Scalar)
    },
    _aten.rsub.Scalar: _binary("Sub", swapped=True),
    _aten.rsub.Tensor: _binary("Sub", swapped=True),
    **dict.fromkeys(
        (
            _aten.dropout.default,
            _aten.feature_dropout.default,
            _aten.alpha_dropout.default,
            _aten.contiguous.default,
            _aten.clone.default,
            _aten.alias.default,
            _aten.detach.default,
            _aten.lift_fresh_copy.default,
        ),
        same,
    ),
}
assert tracing  # its operator is in the table
# Operators that give more than their first result, which alone anybody reads.
FIRST_ONLY = {
    _aten.adaptive_max_pool1d.default,
    _aten.adaptive_max_pool2d.default,
    _aten._native_batch_norm_legit_no_training.default,
    _aten._native_batch_norm_legit.no_stats,
}
