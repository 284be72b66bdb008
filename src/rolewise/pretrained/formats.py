"""`export`: one call that writes the file a suffix asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rolewise.errors import InputError, missing_extra
from rolewise.pretrained.files import SUFFIX, PathLike, save_network
from rolewise.quant.layers import quantized_weights


def export(
    model: nn.Module,
    path: PathLike,
    *,
    image_size: tuple[int, int] = (32, 32),
    opset: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a network for use elsewhere, by the suffix of `path`.

    - `.safetensors`: the tensors, quantized weights as packed codes, and `X.json` beside it; `load_network` builds
      the network from the two.
    - `.onnx`: one file for any ONNX runtime, quantized weights as packed codes, activations quantized as in training.

    Args:
        model: any network; a quantized one becomes small.
        path: where to write.
        image_size: ONNX only: height and width of the images.
        opset: ONNX only: 21 or later; None takes what the installed runtime can run.
        extra: more to keep with the network (data set, classes, accuracy, ...), JSON.

    Returns:
        The path.

    Raises:
        InputError: another suffix, or a network that cannot be written so.
        MissingExtraError: ONNX, and the package onnx is not installed.
    """
    target = Path(path)
    if target.suffix == SUFFIX:
        return save_network(model, target, extra=extra, packed=bool(quantized_weights(model)))
    if target.suffix == ".onnx":
        try:
            from rolewise.pretrained.onnx_export import export_onnx
        except (ImportError, RuntimeError, OSError) as error:
            raise missing_extra("ONNX export", "onnx", "export", error) from error
        return export_onnx(model, target, image_size=image_size, opset=opset, extra=extra)
    raise InputError(f'`path` must end in "{SUFFIX}" or ".onnx", got "{target}".')
