"""OpenVINO IR: `X.xml` with the graph and `X.bin` with the weights, which the CPU plugin computes in 8-bit integers.

The graph is written as for ONNX, with quantizers in the form that the plugin's low-precision passes know, and read by
OpenVINO's ONNX front end.
"""

import re
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rolewise._version import __version__
from rolewise.errors import InputError
from rolewise.pretrained.description import canonical, file_description
from rolewise.pretrained.low_bit import OpenVinoForm
from rolewise.pretrained.onnx_graph import Graph
from rolewise.pretrained.onnx_writer import write_program
from rolewise.pretrained.openvino_file import STATED, seal, settings, shared_core
from rolewise.pretrained.tracing import image_channels, inference_copy, trace
from rolewise.pretrained.verify import Run, check_file
from rolewise.runs import write_atomic

OPSET = 21
_COUNTED = re.compile(r"[A-Za-z]+_\d+")


def export_openvino(
    model: nn.Module, path: Path, *, image_size: tuple[int, int], stated: Mapping[str, Any]
) -> Path:
    """Writes `X.xml` and `X.bin`: normalized `images` (n, 3, h, w) in, `logits` (n, k) out, n free.

    Weights of up to 4 bits lie packed in bytes and are decoded to int8 when the file is compiled; 5 to 7 bits, and 8
    bits of LSQ, lie as int8. DoReFa's and PACT's 8-bit weights, (2 c - 255) / 255, do not fit int8: they are
    float32, and so are their layers.

    Args:
        model: any network that the ONNX export takes.
        path: `X.xml`.
        image_size: height and width; they are fixed in the file.
        stated: more for the file's metadata, JSON.

    Raises:
        InputError: an operator that has no translation, or a file that differs from the network.
        MissingExtraError: openvino is not installed.
    """
    core = shared_core()
    low = inference_copy(model)
    graph = Graph(OPSET, OpenVinoForm())
    result, classes = write_program(low, trace(low, image_size), graph)
    made = graph.finish(result, [image_channels(model), *image_size], classes, __version__)
    description = file_description(model, "openvino", image_size=list(image_size), **stated)
    text, weights = _serialize(_read(core, made.SerializeToString()), description)
    plain = _read(core, graph.unrounded(made).SerializeToString())
    check_file(low, _runner(core, plain), _runner(core, core.read_model(text, weights)), image_size)
    write_atomic(path.with_suffix(".bin"), weights)
    write_atomic(path, seal(text, weights))
    return path


def _read(core: Any, data: bytes) -> Any:
    try:
        network = core.read_model(data)
    except Exception as error:  # openvino raises its own classes
        reason = [line for line in str(error).splitlines() if line.strip()][-1:]
        raise InputError(f"Export: OpenVINO cannot read the network ({' '.join(reason)[:300]}).") from error
    for node in network.get_ordered_ops():
        if node.get_type_name() == "GroupConvolution":
            _group_codes(node)
    # Names that OpenVINO counts up from file to file: the same network always gives the same bytes.
    for index, node in enumerate(network.get_ordered_ops()):
        if _COUNTED.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}.{index}")
    return network


def _group_codes(node: Any) -> None:
    """Puts the reshape of a grouped convolution's weight (out, in, ...) to (groups, ...) before its Convert.

    The front end reshapes the decoded weight. OpenVINO then computes with a constant that has lost its name, by which
    the runtime graph's layers are recognized.
    """
    from openvino import opset13

    reshape = node.input_value(1).get_node()
    multiply = reshape.input_value(0).get_node() if reshape.get_type_name() == "Reshape" else reshape
    convert = multiply.input_value(0).get_node() if multiply.get_type_name() == "Multiply" else multiply
    if convert.get_type_name() != "Convert" or convert is multiply:
        return
    codes = opset13.reshape(convert.input_value(0), reshape.input_value(1), special_zero=False)
    codes.set_friendly_name(f"{multiply.get_friendly_name().rpartition('/')[0]}/Group")
    floats = opset13.convert(codes, "f32")
    node.input(1).replace_source_output(opset13.multiply(floats, multiply.input_value(1)).output(0))


def _serialize(network: Any, description: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The two files."""
    import openvino

    network.set_rt_info(canonical(description), [STATED])
    for key, value in model_info(description).items():
        network.set_rt_info(value, ["model_info", key])
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "network.xml"
        openvino.save_model(network, str(target), compress_to_fp16=False)
        return target.read_bytes(), target.with_suffix(".bin").read_bytes()


def model_info(description: Mapping[str, Any]) -> dict[str, str]:
    """The keys under which OpenVINO's own tools look for what a classifier needs, as far as it is known.

    Means and deviations are of pixels from 0 to 255; a label's spaces become underscores, for spaces part the labels.
    """
    info = description.get("info", {})
    found = {"model_type": "Classification"}
    if "preprocessing" in info:
        steps = info["preprocessing"]
        found["mean_values"] = " ".join(f"{255 * one:.9g}" for one in steps["mean"])
        found["scale_values"] = " ".join(f"{255 * one:.9g}" for one in steps["std"])
        found["reverse_input_channels"] = "False"
    if info.get("classes"):
        found["labels"] = " ".join(_label(one) for one in info["classes"])
    return found


def _label(name: object) -> str:
    """A class name without spaces, and without what UTF-8 has no form for."""
    return str(name).replace(" ", "_").encode("utf-8", "replace").decode()


def _runner(core: Any, network: Any) -> Run:
    """A function that runs the network, which is compiled at the first call."""
    compiled = cache(lambda: core.compile_model(network, "CPU", settings(torch.get_num_threads(), "f32")))

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled()(images.numpy())[0].copy())

    return run
