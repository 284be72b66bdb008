"""`export`: one call that writes the file a suffix asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rolewise.errors import InputError, missing_extra
from rolewise.pretrained.description import check_extra, count_classes
from rolewise.pretrained.files import write_pair
from rolewise.pretrained.info import NetworkInfo, check_info
from rolewise.pretrained.pair import SUFFIX, PathLike
from rolewise.pretrained.targets import check_target
from rolewise.quant.layers import quantized_weights

SUFFIXES = (SUFFIX, ".onnx", ".xml")
_DEFAULT_SIZE = (32, 32)


def export(
    model: nn.Module,
    path: PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    opset: int | None = None,
    extra: Mapping[str, Any] | None = None,
    info: NetworkInfo | None = None,
) -> Path:
    """Writes a network for use elsewhere, by the suffix of `path`.

    - `.safetensors`: the tensors, quantized weights as packed codes, and `X.json` beside it; `load_network` builds
      the network from the two.
    - `.onnx`: one file for any ONNX runtime, quantized weights as packed codes, activations quantized as in training.
    - `.xml`: OpenVINO IR, with `X.bin` beside it, whose quantized layers OpenVINO computes in 8-bit integers.

    ONNX and OpenVINO files are run once on random images and compared with the network before they are kept.

    Args:
        model: any network; a quantized one becomes small.
        path: path to write to. An existing file is replaced if it is an earlier export, and refused otherwise.
        image_size: ONNX and OpenVINO: height and width of the images; None takes those of `info`, else 32 x 32.
        opset: ONNX only: 21 or later; None takes what the installed runtime can run.
        extra: more to keep with the network, JSON.
        info: preparation of images, classes, and origin of the network; kept in the file.

    Returns:
        The path.

    Raises:
        InputError: another suffix, a network that cannot be written so, a file that differs from the network, or a
            path that holds something else.
        MissingExtraError: the package onnx, onnxruntime or openvino is not installed.
    """
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise InputError(f'`path` must end in "{SUFFIX}", ".onnx" or ".xml", got "{target}".')
    packed = bool(quantized_weights(model))
    check_target(target)
    if target.suffix == SUFFIX:
        beside = target.with_suffix(".json")
        return write_pair(model, target, beside, extra=extra, packed=packed, info=info, exported=True)
    size = _size(image_size, info)
    stated: dict[str, Any] = {"extra": check_extra(extra)}
    if info is not None:
        stated["info"] = check_info(info.at_size(size), count_classes(model))
    return _export_graph(model, target, size, opset, stated)


def _export_graph(
    model: nn.Module, target: Path, size: tuple[int, int], opset: int | None, stated: Mapping[str, Any]
) -> Path:
    """Writes ONNX or OpenVINO.

    Raises:
        MissingExtraError: a package is not installed.
    """
    try:
        import onnx  # noqa: F401 - both forms are made from an ONNX graph

        from rolewise.pretrained.onnx_export import export_onnx
        from rolewise.pretrained.openvino_export import export_openvino
    except (ImportError, RuntimeError, OSError) as error:
        raise missing_extra("ONNX export", "onnx", "export", error) from error
    if target.suffix == ".onnx":
        return export_onnx(model, target, image_size=size, opset=opset, stated=stated)
    return export_openvino(model, target, image_size=size, stated=stated)


def _size(image_size: tuple[int, int] | None, info: NetworkInfo | None) -> tuple[int, int]:
    """Height and width.

    Raises:
        InputError: not two integers of at least 1.
    """
    if image_size is None:
        return _DEFAULT_SIZE if info is None or info.preprocessing is None else info.preprocessing.size
    try:
        height, width = image_size
        if isinstance(height, bool) or int(height) != height or int(width) != width or min(image_size) < 1:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`image_size` must be height and width, integers of at least 1, got {image_size!r}."
        ) from error
    return int(height), int(width)
