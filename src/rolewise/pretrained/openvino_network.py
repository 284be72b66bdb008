"""OpenVINO files of this package, read again: what they say of themselves, how they run, and in which precision."""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.pretrained.description import check_version
from rolewise.pretrained.openvino_file import load_openvino, settings, shared_core, unseal

_LAYERS = ("Convolution", "FullyConnected", "MatMul", "Deconvolution")
# The runtime graph keeps the names of weights; a layer's own name is lost where BatchNorm is folded into it.
_WEIGHT = re.compile(r"^(?P<layer>.+)\.weight(?:\.codes)?(?:/.*)?$")


@dataclass(frozen=True)
class ExecutedLayer:
    """How a convolution or linear layer runs.

    Args:
        name: path of the module; the runtime's own name if it belongs to no module.
        precision: precision of its input, such as "u8" or "f32".
        primitive: the kernel, such as "brgconv_avx512_I8".
    """

    name: str
    precision: str
    primitive: str

    @property
    def integer(self) -> bool:
        """Whether it multiplies 8-bit integers."""
        return self.precision in ("u8", "i8") and self.primitive.upper().endswith(("_I8", "_U8"))


def read_openvino(path: Path) -> tuple[bytes, bytes, dict[str, Any]]:
    """The XML, the weights and the description of a pair of files.

    Raises:
        InputError: a file is missing, damaged, or was not written by this package.
    """
    beside = path.with_suffix(".bin")
    try:
        data, weights = path.read_bytes(), beside.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {error.filename}: {error.strerror or error}.") from error
    found = unseal(data)
    if found is None:
        raise InputError(
            f"{path} is damaged, or was not written by rolewise: it does not end with the SHA-256 of what precedes."
        )
    text, digest = found
    if hashlib.sha256(weights).hexdigest() != digest:
        raise InputError(
            f"{beside} is not the file that {path.name} describes (its SHA-256 differs): it is damaged, or belongs "
            f"to another description."
        )
    stated = re.search(rb'<rolewise value="([^"]*)"', text)
    if stated is None:
        raise InputError(f"{path} does not describe a network of rolewise.")
    description: dict[str, Any] = json.loads(_unescape(stated[1].decode()))
    check_version(path, description)
    return text, weights, description


def _unescape(text: str) -> str:
    """The text of an XML attribute."""
    from xml.sax.saxutils import unescape

    numbers = re.sub(r"&#(\d+);", lambda match: chr(int(match[1])), text)
    return unescape(numbers, {"&quot;": '"', "&apos;": "'"})


def describe_openvino(path: Path) -> dict[str, Any]:
    """The description in a file's metadata."""
    _, weights, stated = read_openvino(path)
    return {**stated, "bytes": path.stat().st_size + len(weights)}


class OpenVinoNetwork(nn.Module):
    """A network that OpenVINO computes on the CPU, quantized layers in 8-bit integers. For inference.

    `(n, 3, h, w)`, normalized, to `(n, k)`. `layers` says how each convolution and linear layer runs.
    """

    layers: tuple[ExecutedLayer, ...]

    def __init__(self, compiled: Any) -> None:
        super().__init__()
        self.compiled = compiled
        self.layers = executed_layers(compiled)

    def forward(self, images: Tensor) -> Tensor:
        array = images.detach().cpu().float().contiguous().numpy()
        return torch.from_numpy(self.compiled(array)[0].copy()).to(images.device)


def openvino_network(
    path: str | Path, *, threads: int | None = None, precision: str = "f32"
) -> OpenVinoNetwork:
    """The network of a file that `export` wrote, run by OpenVINO.

    A warning lists the quantized layers that are not executed in 8-bit integers, if there are any.

    Args:
        path: `X.xml`, with `X.bin` beside it.
        threads: number of threads; None leaves it the choice.
        precision: "f32" or "bf16", for all that is not computed in integers.

    Raises:
        InputError: a damaged file, one that the installed OpenVINO cannot run, or another `precision`.
        MissingExtraError: openvino is not installed.
    """
    if precision not in ("f32", "bf16"):
        raise InputError(f'`precision` must be "f32" or "bf16", got {precision!r}.')
    text, weights, stated = read_openvino(Path(path))
    openvino = load_openvino()
    try:
        core = shared_core()
        compiled = core.compile_model(core.read_model(text, weights), "CPU", settings(threads, precision))
    except Exception as error:  # openvino raises its own classes
        reason = [line for line in str(error).splitlines() if line.strip()][-1:]
        raise InputError(
            f"openvino {openvino.__version__} cannot run {path} ({' '.join(reason)[:300]}). A newer openvino may."
        ) from error
    network = OpenVinoNetwork(compiled)
    if slow := float_layers(network.layers, stated):
        warnings.warn(
            f"{path}: {len(slow)} quantized layer{'s are' if len(slow) > 1 else ' is'} not executed in 8-bit integers "
            f"here: {', '.join(slow[:5])}{', ...' if len(slow) > 5 else ''}.",
            stacklevel=2,
        )
    return network.eval()


def executed_layers(compiled: Any) -> tuple[ExecutedLayer, ...]:
    """What the runtime graph of a compiled network says of its convolutions and linear layers."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()

        def read(key: str, about: Any = about) -> str:
            value = about[key] if key in about else ""  # noqa: SIM401 - RTMap has no `get`
            return str(getattr(value, "value", value))

        if read("layerType") not in _LAYERS:
            continue
        weights = (one.get_source_output().get_node().get_friendly_name() for one in node.inputs())
        names = [match["layer"] for match in map(_WEIGHT.match, weights) if match]
        name = names[0] if names else read("originalLayersNames").split(",")[0]
        found.append(ExecutedLayer(name, read("runtimePrecision"), read("primitiveType")))
    return tuple(found)


def float_layers(layers: tuple[ExecutedLayer, ...], stated: Mapping[str, Any]) -> list[str]:
    """The layers with quantized weights that do not run in 8-bit integers, by name.

    Args:
        layers: the result of `executed_layers`.
        stated: the file's description.
    """
    quantized = (stated.get("quantization") or {}).get("weights", {})
    integer = {layer.name for layer in layers if layer.integer}
    floats = {layer.name for layer in layers if not layer.integer}
    return [name for name in quantized if name not in integer or name in floats]
