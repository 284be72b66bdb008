"""ONNX files with low-bit weights that really are small.

PyTorch's own exporter would fold the quantized weights back to float32. Here `torch.export` gives the graph and each
operator is written by hand, so that a quantized weight stays packed codes behind a `DequantizeLinear`.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from rolewise._version import __version__
from rolewise.errors import missing_extra
from rolewise.pretrained.description import canonical, file_description
from rolewise.pretrained.low_bit import STORAGE, OnnxForm
from rolewise.pretrained.onnx_graph import Graph, check_opset
from rolewise.pretrained.onnx_writer import write_program
from rolewise.pretrained.tracing import image_channels, inference_copy, trace
from rolewise.pretrained.verify import check_file
from rolewise.quant import Grid
from rolewise.quant.layers import quantized_weights
from rolewise.runs import write_atomic

STATED, SEAL = "rolewise", "rolewise.sha256"


def export_onnx(
    model: nn.Module,
    path: Path,
    *,
    image_size: tuple[int, int],
    opset: int | None = None,
    stated: Mapping[str, Any],
) -> Path:
    """Writes one file: normalized `images` (n, 3, h, w) in, `logits` (n, k) out, n free.

    Weights of 2 bits or less are stored as UINT2 (opset 25), of 3 and 4 bits as UINT4 (opset 21), of 5 to 8 bits as
    UINT8. The file and the network are run once on random images before anything is written.

    Args:
        model: any network of the operators in `OPERATORS`.
        path: path to write to.
        image_size: height and width; they are fixed in the file.
        opset: None takes 25 if there are weights of 2 bits or less and both the installed onnx and onnxruntime
            handle UINT2, else 21.
        stated: more for the file's metadata, JSON.

    Raises:
        InputError: an operator that has no translation, an opset that is too old or too new, or a file that differs
            from the network.
    """
    low = inference_copy(model)
    bits = min((layer.weight_bits for layer in quantized_weights(low).values()), default=32)
    if opset is None:
        opset = STORAGE["UINT2" if bits <= STORAGE["UINT2"][0] and supports("UINT2") else "UINT4"][1]
    check_opset(opset)
    graph = Graph(opset, OnnxForm("UINT2" if opset >= STORAGE["UINT2"][1] else "UINT4"))
    result, classes = write_program(low, trace(low, image_size), graph)
    made = graph.finish(result, [image_channels(model), *image_size], classes, __version__)
    description = file_description(model, "onnx", image_size=list(image_size), **stated)
    onnx.helper.set_model_props(made, {STATED: canonical(description)})
    onnx.checker.check_model(made, full_check=True)
    data = seal(made.SerializeToString(deterministic=True))
    check_file(low, _runner(graph.unrounded(made).SerializeToString()), _runner(data), image_size)
    write_atomic(path, data)
    return path


def onnx_session(data: bytes, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU that decodes low-bit weights once, when it loads the file.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except (ImportError, RuntimeError, OSError) as error:
        raise missing_extra("Running an ONNX file", "onnxruntime", "export", error) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # else they are decoded in every run
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _runner(data: bytes) -> Any:
    """A function that runs the file, whose session is made at the first call."""
    session = cache(lambda: onnx_session(data, torch.get_num_threads()))

    def run(images: Tensor) -> Tensor:
        (logits,) = session().run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


def seal(data: bytes) -> bytes:
    """Adds the SHA-256 of all before it. Protobuf reads what is appended as one more entry of the metadata."""
    return data + _seal(hashlib.sha256(data).hexdigest())


def _seal(digest: str) -> bytes:
    model = onnx.ModelProto()
    onnx.helper.set_model_props(model, {SEAL: digest})
    return bytes(model.SerializeToString(deterministic=True))


SEAL_BYTES = len(_seal("0" * 64))


@cache
def supports(kind: str) -> bool:
    """Whether the installed onnx and onnxruntime handle weights of this type: a file of one layer is made and run."""
    try:
        check_opset(STORAGE[kind][1])
        form = OnnxForm(kind)
        graph = Graph(STORAGE[kind][1], form)
        codes = np.array([[0, 1], [2, 3]], np.uint8)
        weight = form.weight(graph, codes, Grid(2, scale=2 / 3, shift=1.0), "weight")
        made = graph.finish(graph.add("Gemm", ["images", weight], "probe", transB=1), [2], 2, __version__)
        onnx.checker.check_model(made, full_check=True)
        session = onnx_session(made.SerializeToString(), 1)
        (found,) = session.run(None, {"images": np.eye(2, dtype=np.float32)})
        return bool(np.allclose(found, [[-1, 1 / 3], [-1 / 3, 1]], atol=1e-6))
    except Exception:  # an older runtime may refuse in any way it likes
        return False
