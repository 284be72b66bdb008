"""ONNX files of this package, read again: what they say of themselves, and as a network that onnxruntime runs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rolewise.errors import InputError, MissingExtraError, first_line, missing_extra
from rolewise.pretrained.description import check_version


def read_onnx(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a file and its description.

    Raises:
        InputError: no file, a file that this package did not write, or a damaged one.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx

        from rolewise.pretrained.onnx_export import SEAL_BYTES, STATED, seal
    except (ImportError, RuntimeError, OSError) as error:
        raise missing_extra("Reading an ONNX file", "onnx", "export", error) from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    if seal(data[:-SEAL_BYTES]) != data:
        raise InputError(
            f"{path} is damaged, or was not written by rolewise: it does not end with the SHA-256 of what precedes."
        )
    model = onnx.ModelProto()
    model.ParseFromString(data)
    stated = json.loads({entry.key: entry.value for entry in model.metadata_props}[STATED])
    check_version(path, stated)
    return data, stated


def describe_onnx(path: Path) -> dict[str, Any]:
    """The description in a file's metadata."""
    data, stated = read_onnx(path)
    return {**stated, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class OnnxNetwork(nn.Module):
    """A network that onnxruntime computes on the CPU, in float32: `(n, 3, h, w)` to `(n, k)`. For inference.

    Args:
        data: an ONNX file.
        threads: number of threads of onnxruntime; None leaves the choice to it.
    """

    def __init__(self, data: bytes, *, threads: int | None = None) -> None:
        super().__init__()
        from rolewise.pretrained.onnx_export import onnx_session

        try:
            self.session = onnx_session(data, threads)
        except MissingExtraError:
            raise
        except Exception as error:  # onnxruntime raises its own classes, by no common one
            import onnxruntime

            reason = first_line(error)
            raise InputError(
                f"onnxruntime {onnxruntime.__version__} cannot run this file ({reason}). A newer onnxruntime may; or "
                f"export again with `opset=21`."
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        array = images.detach().cpu().float().contiguous().numpy()
        (logits,) = self.session.run(["logits"], {"images": array})
        return torch.from_numpy(logits).to(images.device)


def onnx_network(path: str | Path, *, threads: int | None = None) -> OnnxNetwork:
    """The network of a file that `export` wrote, run by onnxruntime.

    Raises:
        InputError: a damaged file, or one that the installed onnxruntime cannot run.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    return OnnxNetwork(read_onnx(Path(path))[0], threads=threads)
