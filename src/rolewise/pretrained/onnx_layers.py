"""Convolutions, linear layers, norms, pools, resizing and attention in ONNX; one function each."""

import math

import numpy as np

from rolewise.pretrained.onnx_call import Call, refuse, spread


def conv(call: Call) -> str:
    """Conv1d and Conv2d; `padding` of numbers, "valid" or "same"."""
    a, kernel = call.a, list(call.shapes["weight"][2:])
    rank = len(kernel)
    strides, dilations = spread(a["stride"], rank), spread(a["dilation"], rank)
    if a["padding"] == "same":  # of an odd total, PyTorch puts the greater half behind
        totals = [step * (size - 1) for step, size in zip(dilations, kernel, strict=True)]
        pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    else:
        pads = spread(0 if a["padding"] == "valid" else a["padding"], rank) * 2
    inputs = [a["input"], a["weight"]] + ([a["bias"]] if a["bias"] is not None else [])
    return call.add(
        "Conv",
        *inputs,
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=int(a["groups"]),
    )


def conv_transpose(call: Call) -> str:
    a, kernel = call.a, list(call.shapes["weight"][2:])
    rank = len(kernel)
    inputs = [a["input"], a["weight"]] + ([a["bias"]] if a["bias"] is not None else [])
    return call.add(
        "ConvTranspose",
        *inputs,
        kernel_shape=kernel,
        strides=spread(a["stride"], rank),
        pads=spread(a["padding"], rank) * 2,
        output_padding=spread(a["output_padding"], rank),
        dilations=spread(a["dilation"], rank),
        group=int(a["groups"]),
    )


def linear(call: Call) -> str:
    a = call.a
    bias = [a["bias"]] if a["bias"] is not None else []
    if len(call.shapes["input"]) == 2:
        return call.add("Gemm", a["input"], a["weight"], *bias, transB=1)
    product = call.add("MatMul", a["input"], call.add("Transpose", a["weight"], perm=[1, 0]))
    return call.add("Add", product, *bias) if bias else product


def addmm(call: Call) -> str:
    a = call.a
    return call.add("Gemm", a["mat1"], a["mat2"], a["self"], alpha=float(a["alpha"]), beta=float(a["beta"]))


def matmul(call: Call) -> str:
    return call.add("MatMul", call.a["self"], call.a.get("other", call.a.get("mat2")))


def attention(call: Call) -> str:
    """softmax(q k^T scale) v."""
    a = call.a
    if a["attn_mask"] is not None or a["is_causal"] or a["enable_gqa"]:
        raise refuse(call, "attention with a mask")
    width, rank = call.shapes["query"][-1], len(call.shapes["query"])
    scale = 1 / math.sqrt(width) if a["scale"] is None else float(a["scale"])
    order = [*range(rank - 2), rank - 1, rank - 2]
    scores = call.add("MatMul", a["query"], call.add("Transpose", a["key"], perm=order))
    weights = call.add("Softmax", call.add("Mul", scores, call.graph.number(scale)), axis=-1)
    return call.add("MatMul", weights, a["value"])


def _affine(call: Call, width: int) -> tuple[str, str]:
    """Scale and shift of a norm over `width` channels; 1 and 0 where it learns none."""
    a, graph = call.a, call.graph
    return (
        a["weight"] or graph.constant(np.ones(width, np.float32), "ones"),
        a["bias"] or graph.constant(np.zeros(width, np.float32), "zeros"),
    )


def batch_norm(call: Call) -> str:
    a = call.a
    if a.get("running_mean") is None or a.get("training"):
        raise refuse(call, "BatchNorm without running statistics")
    affine = _affine(call, call.shapes["input"][1])
    inputs = (a["input"], *affine, a["running_mean"], a["running_var"])
    return call.add("BatchNormalization", *inputs, epsilon=float(a["eps"]))


def instance_norm(call: Call) -> str:
    if not call.a["use_input_stats"]:
        return batch_norm(call)
    affine = _affine(call, call.shapes["input"][1])
    return call.add("InstanceNormalization", call.a["input"], *affine, epsilon=float(call.a["eps"]))


def layer_norm(call: Call) -> str:
    a, graph, shape = call.a, call.graph, [int(size) for size in call.a["normalized_shape"]]
    scale = a["weight"] or graph.constant(np.ones(shape, np.float32), "ones")
    shift = [a["bias"]] if a["bias"] else []
    return call.add(
        "LayerNormalization", a["input"], scale, *shift, axis=-len(shape), epsilon=float(a["eps"])
    )


def group_norm(call: Call) -> str:
    """Each group as one channel of an instance norm, then the channels' own scale and shift."""
    a, graph = call.a, call.graph
    groups, shape = int(a["num_groups"]), call.shapes["input"]
    ones, zeros = (graph.constant(np.full(groups, one, np.float32), "group") for one in (1, 0))
    rows = call.reshaped(a["input"], (-1, groups, math.prod(shape[1:]) // groups))
    value = call.add("InstanceNormalization", rows, ones, zeros, epsilon=float(a["eps"]))
    value = call.reshaped(value, (-1, *shape[1:]))
    channels = (shape[1], *[1] * (len(shape) - 2))
    if a["weight"] is not None:
        value = call.add("Mul", value, call.reshaped(a["weight"], channels))
    return value if a["bias"] is None else call.add("Add", value, call.reshaped(a["bias"], channels))


def _pool(call: Call, kind: str, **attributes: object) -> str:
    a, sizes = call.a, call.shapes["self"]
    rank = len(sizes) - 2
    kernel, pads = spread(a["kernel_size"], rank), spread(a["padding"], rank)
    strides = spread(a["stride"] or a["kernel_size"], rank)
    dilations = spread(a.get("dilation", 1), rank)
    # Where nothing is cut off, both roundings of the size agree, and the runtimes have one meaning.
    floor = tuple(
        (size + 2 * pad - dilation * (width - 1) - 1) // step + 1
        for size, pad, dilation, width, step in zip(sizes[2:], pads, dilations, kernel, strides, strict=True)
    )
    return call.add(
        kind,
        a["self"],
        kernel_shape=kernel,
        strides=strides,
        pads=pads * 2,
        ceil_mode=int(bool(a["ceil_mode"]) and floor != call.result[2:]),
        **attributes,
    )


def max_pool(call: Call) -> str:
    return _pool(call, "MaxPool", dilations=spread(call.a["dilation"], len(call.shapes["self"]) - 2))


def avg_pool(call: Call) -> str:
    if call.a.get("divisor_override") is not None:
        raise refuse(call, "`divisor_override` of an average pool")
    return _pool(call, "AveragePool", count_include_pad=int(bool(call.a["count_include_pad"])))


def adaptive_avg_pool(call: Call) -> str:
    return _adaptive(call, "AveragePool", "ReduceMean")


def adaptive_max_pool(call: Call) -> str:
    return _adaptive(call, "MaxPool", "ReduceMax")


def _adaptive(call: Call, kind: str, reduce: str) -> str:
    """Output i of an axis covers floor(i size / target) up to ceil((i + 1) size / target), as PyTorch has it."""
    sizes = call.shapes["self"][2:]
    targets = list(call.result[2:])
    pairs = list(zip(sizes, targets, strict=True))
    if list(sizes) == targets:
        return str(call.a["self"])
    if all(size % target == 0 for size, target in pairs):
        window = [size // target for size, target in pairs]
        return call.add(kind, call.a["self"], kernel_shape=window, strides=window)
    if all(target % size == 0 for size, target in pairs):  # each pixel is repeated
        return _resize(call, call.a["self"], [target / size for size, target in pairs], "nearest")
    value = str(call.a["self"])
    for axis, (size, target) in enumerate(pairs, start=2):
        if size == target:
            continue
        cells = []
        for index in range(target):
            begin, end = index * size // target, -(-(index + 1) * size // target)
            bounds = (call.graph.shape([one]) for one in (begin, end, axis))
            cells.append(
                call.add(reduce, call.add("Slice", value, *bounds), call.graph.shape([axis]), keepdims=1)
            )
        value = call.add("Concat", *cells, axis=axis)
    return value


def _resize(call: Call, value: str, factors: list[float], mode: str, *, corners: bool = False) -> str:
    scales = call.graph.constant(np.array([1.0, 1.0, *factors], np.float32), "scales")
    if mode == "nearest":
        options = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    else:
        options = {"coordinate_transformation_mode": "align_corners" if corners else "half_pixel"}
    return call.add("Resize", value, "", scales, mode=mode, **options)


def _factors(call: Call) -> list[float]:
    given = call.a.get("scale_factors")
    if given:
        return [float(one) for one in given]
    return [new / old for new, old in zip(call.result[2:], call.shapes["input"][2:], strict=True)]


def upsample_nearest(call: Call) -> str:
    return _resize(call, call.a["input"], _factors(call), "nearest")


def upsample_bilinear(call: Call) -> str:
    return _resize(call, call.a["input"], _factors(call), "linear", corners=bool(call.a["align_corners"]))


_PADS = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def _pad(call: Call, mode: str) -> str:
    rank, given = len(call.shapes["self"]), call.a.get("pad", call.a.get("padding"))
    begins, ends = [0] * rank, [0] * rank
    for index in range(len(given) // 2):  # the last dimension comes first
        begins[rank - 1 - index], ends[rank - 1 - index] = int(given[2 * index]), int(given[2 * index + 1])
    number = call.graph.number(float(call.a.get("value") or 0))
    return call.add("Pad", call.a["self"], call.graph.shape(begins + ends), number, mode=mode)


def pad(call: Call) -> str:
    mode = str(call.a.get("mode", "constant"))
    return _wrapped(call) if mode == "circular" else _pad(call, _PADS[mode])


def _wrapped(call: Call) -> str:
    """Circular padding: each axis between its own end and its own beginning; OpenVINO has no such mode."""
    value, shape, given = str(call.a["self"]), call.shapes["self"], call.a["pad"]

    def cut(source: str, begin: int, end: int, axis: int) -> str:
        return call.add("Slice", source, *(call.graph.shape([one]) for one in (begin, end, axis)))

    for index in range(len(given) // 2):  # the last dimension comes first
        before, behind, axis = int(given[2 * index]), int(given[2 * index + 1]), len(shape) - 1 - index
        if before < 0 or behind < 0:
            raise refuse(call, "circular padding by negative widths")
        parts = [cut(value, shape[axis] - before, shape[axis], axis)] if before else []
        parts += [value, *([cut(value, 0, behind, axis)] if behind else [])]
        value = call.add("Concat", *parts, axis=axis) if len(parts) > 1 else value
    return value


def reflection_pad(call: Call) -> str:
    return _pad(call, "reflect")


def replication_pad(call: Call) -> str:
    return _pad(call, "edge")


def quantize_activation(call: Call) -> str:
    a = call.a
    return call.graph.form.activation(call.graph, a["x"], int(a["bits"]), a["step"], call.place)
