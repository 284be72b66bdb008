"""Operators that move, cut and join in ONNX; one function each."""

import math
from collections.abc import Sequence

from rolewise.pretrained.onnx_call import Call, Operator, refuse

_END = 2**31 - 1


def reshape(call: Call) -> str:
    return call.reshaped(call.a["self"], call.result)


def transpose(call: Call) -> str:
    order = list(range(len(call.result)))
    first, second = call.a["dim0"] % len(order), call.a["dim1"] % len(order)
    order[first], order[second] = second, first
    return call.add("Transpose", call.a["self"], perm=order)


def t(call: Call) -> str:
    return call.add("Transpose", call.a["self"], perm=list(range(len(call.result)))[::-1])


def permute(call: Call) -> str:
    return call.add("Transpose", call.a["self"], perm=[axis % len(call.result) for axis in call.a["dims"]])


def flip(call: Call) -> str:
    value = str(call.a["self"])
    for axis in call.axes("dims", len(call.result)):
        bounds = (call.graph.shape([one]) for one in (-1, -_END, axis, -1))
        value = call.add("Slice", value, *bounds)
    return value


def cat(call: Call) -> str:
    return call.add("Concat", *call.a["tensors"], axis=int(call.a["dim"]))


def stack(call: Call) -> str:
    axis = int(call.a["dim"]) % len(call.result)
    parts = (call.add("Unsqueeze", one, call.graph.shape([axis])) for one in call.a["tensors"])
    return call.add("Concat", *parts, axis=axis)


def _split(call: Call, sizes: Sequence[int]) -> str:
    axis = int(call.a["dim"])
    return call.add("Split", call.a["self"], call.graph.shape(sizes), axis=axis, outputs=call.parts)


def split(call: Call) -> str:
    total, size = call.shapes["self"][call.a["dim"]], int(call.a["split_size"])
    return _split(call, [min(size, total - size * index) for index in range(call.parts)])


def chunk(call: Call) -> str:
    total = call.shapes["self"][call.a["dim"]]
    size = math.ceil(total / call.a["chunks"])
    return _split(call, [min(size, total - size * index) for index in range(call.parts)])


def split_with_sizes(call: Call) -> str:
    return _split(call, [int(size) for size in call.a["split_sizes"]])


def _bound(call: Call, value: object, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int):
        raise refuse(call, "a slice whose bounds depend on the batch size")
    return min(value, _END)


def slice_(call: Call) -> str:
    a = call.a
    start, end, step = _bound(call, a["start"], 0), _bound(call, a["end"], _END), int(a["step"])
    if start == 0 and end == _END and step == 1:
        return str(a["self"])
    bounds = (call.graph.shape([one]) for one in (start, end, int(a["dim"]), step))
    return call.add("Slice", a["self"], *bounds)


def slice_scatter(call: Call) -> str:
    """`self` with a range of one dimension replaced: what comes before, the source, what comes behind."""
    a, axis = call.a, int(call.a["dim"]) % len(call.result)
    start, end = _bound(call, a["start"], 0), _bound(call, a["end"], _END)
    size = call.result[axis]
    if int(a["step"]) != 1 or (size < 0 and (start, end) != (0, _END)):
        raise refuse(call, "an in-place write to a strided slice, or to a part of the batch")
    if size >= 0:
        start, end = (one % size if one < 0 else min(one, size) for one in (start, end))
    return _replaced(call, a["src"], axis, start, size - end if size >= 0 else 0)


def select_scatter(call: Call) -> str:
    """`self` with one entry of a dimension replaced."""
    a, axis = call.a, int(call.a["dim"]) % len(call.result)
    size, index = call.result[axis], int(call.a["index"])
    if size < 0:
        raise refuse(call, "an in-place write to one image of the batch")
    source = call.add("Unsqueeze", a["src"], call.graph.shape([axis]))
    return _replaced(call, source, axis, index % size, size - index % size - 1)


def _replaced(call: Call, source: str, axis: int, before: int, behind: int) -> str:
    """`source`, framed by the first `before` and the last `behind` entries of `self`."""

    def cut(start: int, end: int) -> str:
        return call.add("Slice", call.a["self"], *(call.graph.shape([one]) for one in (start, end, axis)))

    parts = [cut(0, before)] if before else []
    parts.append(source)
    if behind:
        parts.append(cut(-behind, _END))
    return source if len(parts) == 1 else call.add("Concat", *parts, axis=axis)


def select(call: Call) -> str:
    index = int(call.a["index"])
    axis = int(call.a["dim"]) % len(call.shapes["self"])
    cut = call.add(
        "Slice", call.a["self"], *(call.graph.shape([one]) for one in (index, index + 1 or _END, axis))
    )
    return call.add("Squeeze", cut, call.graph.shape([axis]))


def expand(call: Call) -> str:
    before = call.shapes["self"]
    lead = len(call.result) - len(before)
    if any(new < 0 and (index < lead or before[index - lead] >= 0) for index, new in enumerate(call.result)):
        raise refuse(call, "an expansion over the batch")
    return call.add("Expand", call.a["self"], call.graph.shape([max(size, 1) for size in call.result]))


def copy(call: Call) -> str:
    """`src` in the shape of `self`, whose values are overwritten."""
    if call.shapes.get("src") == call.result:
        return str(call.a["src"])
    zeros = call.add("Mul", call.a["self"], call.graph.number(0))
    return call.add("Add", zeros, call.a["src"])


def repeat(call: Call) -> str:
    if len(call.a["repeats"]) != len(call.shapes["self"]):
        raise refuse(call, "a repetition that adds dimensions")
    return call.add("Tile", call.a["self"], call.graph.shape([int(one) for one in call.a["repeats"]]))


def pixel_shuffle(call: Call) -> str:
    return call.add("DepthToSpace", call.a["self"], blocksize=int(call.a["upscale_factor"]), mode="CRD")


def channel_shuffle(call: Call) -> str:
    """Channels in groups, groups and places within them exchanged."""
    groups, (_, channels, *rest) = int(call.a["groups"]), call.shapes["self"]
    value = call.reshaped(call.a["self"], (-1, groups, channels // groups, math.prod(rest)))
    return call.reshaped(call.add("Transpose", value, perm=[0, 2, 1, 3]), (-1, channels, *rest))


def reduction(kind: str) -> Operator:
    """A sum, mean or extreme over some dimensions."""

    def write(call: Call) -> str:
        axes = call.axes("dim", len(call.shapes["self"])) if "dim" in call.a else []
        axes = axes or list(range(len(call.shapes["self"])))
        keep = int(bool(call.a.get("keepdim", False)))
        return call.add(kind, call.a["self"], call.graph.shape(axes), keepdims=keep)

    return write


def vector_norm(call: Call) -> str:
    if call.a["ord"] not in (1, 2):
        raise refuse(call, f"a norm of order {call.a['ord']}")
    return reduction("ReduceL2" if call.a["ord"] == 2 else "ReduceL1")(call)
