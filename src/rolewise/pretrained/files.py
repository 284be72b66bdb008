"""Networks on disk: `X.safetensors` with the tensors, `X.json` beside it with all that is needed to build it.

The JSON holds the SHA-256 of the safetensors file, and the file's own header repeats the description, so that
neither of the two can change unnoticed. Nothing is unpickled and no code is run.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.pretrained.description import (
    FORMAT,
    FORMAT_VERSION,
    canonical,
    check_extra,
    check_same,
    check_tensors,
    check_version,
    describe_model,
    differences,
    digest_tensors,
    listed,
    rebuild,
    shorten,
    tensor_bytes,
)
from rolewise.pretrained.info import NetworkInfo, check_info
from rolewise.pretrained.packed_weights import pack_weights, unpack_weights
from rolewise.pretrained.tracing import plain_module
from rolewise.quant import apply_quantization, quantization
from rolewise.runs import load_json, to_json, write_atomic

SUFFIX = ".safetensors"
COMPILED = "_orig_mod."  # what torch.compile puts into the names of a part that it wraps
HUB_FILES = ("model.safetensors", "config.json")
_IDENTITY = ("form", "architecture", "num_classes", "quantization", "packed", "info", "exported", "digest")

PathLike = str | os.PathLike[str]


def save_network(
    model: nn.Module,
    path: PathLike,
    *,
    extra: Mapping[str, Any] | None = None,
    packed: bool = False,
    info: NetworkInfo | None = None,
) -> Path:
    """Writes `X.safetensors` and `X.json`; `load_network` builds the network from the pair alone.

    Args:
        model: any network; one from outside the package is given again to `load_network`.
        path: `X` or `X.safetensors`.
        extra: more to keep in the JSON (data set, classes, accuracy, ...), free of choice.
        packed: write the quantized weights as integer codes without gaps. Such a file is small; what it holds of
            the weights are the levels that the network computes with, not the float weights behind them, so it is
            for inference.
        info: preparation of images, classes, and origin of the network.

    Returns:
        The path of the safetensors file.

    Raises:
        InputError: another suffix, or `packed` for a network without quantized weights.
        OSError, RunError: the file cannot be written.
    """
    target = tensors_path(path)
    return write_pair(model, target, target.with_suffix(".json"), extra=extra, packed=packed, info=info)


def tensors_path(path: PathLike) -> Path:
    """`X.safetensors` from `X` or `X.safetensors`.

    Raises:
        InputError: another suffix of three or more letters that would be taken for a part of the name.
    """
    target = Path(path)
    if target.suffix == SUFFIX:
        return target
    if target.suffix in (".pt", ".pth", ".bin", ".onnx", ".json", ".ckpt"):
        raise InputError(f'`path` must end in "{SUFFIX}" or have no suffix, got "{target}".')
    return target.with_name(target.name + SUFFIX)


def write_pair(
    model: nn.Module,
    target: Path,
    beside: Path,
    *,
    extra: Mapping[str, Any] | None,
    packed: bool,
    info: NetworkInfo | None = None,
    exported: bool = False,
) -> Path:
    """Writes the tensors to `target` and the description to `beside`; `exported` marks overwritable files."""
    model = plain_module(model)
    stated: dict[str, Any] = {"form": "packed" if packed else "float", **describe_model(model)}
    if exported:
        stated["exported"] = True
    if about := check_info(info, stated["num_classes"]):
        stated["info"] = about
    tensors = {
        name.replace(COMPILED, ""): tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    if packed:
        tensors, stated["packed"] = pack_weights(model, tensors)
    stated["digest"] = digest_tensors(tensors)
    # Tied weights are written twice: the format refuses tensors that share memory.
    unshared = {name: tensor.clone() for name, tensor in tensors.items()}
    data = to_safetensors(unshared, metadata={"rolewise": canonical(stated)})
    text = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **stated,
        "extra": check_extra(extra),
    }
    beside_data = to_json(text)
    write_atomic(target, data)
    write_atomic(beside, beside_data)
    return target


def load_network(path: PathLike, *, model: nn.Module | None = None) -> nn.Module:
    """The network that `save_network`, `save_pretrained` or `export` wrote, in eval mode.

    Args:
        path: `X.safetensors` (or `X`) with `X.json` beside it, or a folder of `save_pretrained`.
        model: the network to load into. Needed for networks from outside the package; others must be the same
            network as in the file. A float network is quantized as the file says.

    Raises:
        InputError: a file is missing, damaged (its digest differs), of a newer format, or holds another network: the
            first differences are listed.
    """
    source, stated, tensors = read_pair(path)
    if stated["form"] == "packed":
        tensors = unpack_weights(source, stated, tensors)
    network = rebuild(source, stated) if model is None else plain_module(model)
    if stated["quantization"] is not None and quantization(network) is None:
        try:
            apply_quantization(network, stated["quantization"])
        except (InputError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{source} describes a quantization that cannot be applied: {error}") from error
    check_same(source, stated, network)
    if model is None:
        _take_type(network, tensors)
    check_tensors(source, tensors, network)
    network.load_state_dict(tensors, strict=True)
    _check_ties(source, tensors, network)
    return network.eval()


def _take_type(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives a network that was built here the one floating-point type that a file has, such as float16."""
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(kinds) == 1:
        network.to(kinds.pop())


def _check_ties(source: str, tensors: Mapping[str, Tensor], network: nn.Module) -> None:
    """Checks that no tensor was loaded into the memory of another one.

    Raises:
        InputError: the network shares a tensor between two names that differ in the file.
    """
    mine = network.state_dict()
    lost = [name for name, tensor in tensors.items() if tensor_bytes(mine[name]) != tensor_bytes(tensor)]
    if lost:
        raise InputError(
            f"{source} holds different weights where the network shares one (tied weights, each quantized its own "
            f"way):\n{listed(lost)}\nLoad it into a network whose layers have weights of their own."
        )


def describe(path: PathLike) -> dict[str, Any]:
    """What a file of `save_network`, `save_pretrained` or `export` says of itself.

    The tensors are not looked at. Keys among others: `architecture`, `num_classes`, `quantization`, `extra`, `info`,
    and on the same level what the writer put into these two, for example `data`, `classes`, `preprocessing`.

    Raises:
        InputError: no such file, or one that this package did not write.
    """
    suffix = Path(path).suffix
    if suffix == ".onnx":
        from rolewise.pretrained.onnx_network import describe_onnx

        stated = describe_onnx(Path(path))
    elif suffix == ".xml":
        from rolewise.pretrained.openvino_network import describe_openvino

        stated = describe_openvino(Path(path))
    else:
        stated = _read_description(_locate(path)[1])
    found = {**stated.get("extra", {}), **stated.get("info", {}), **stated}
    try:
        NetworkInfo.from_json(found)
    except InputError as error:
        raise InputError(f"{path} describes its use in a way that cannot be: {error}") from error
    return found


def _locate(path: PathLike) -> tuple[Path, Path]:
    """The tensors' file and the description's."""
    given = Path(path)
    if given.is_dir():
        return given / HUB_FILES[0], given / HUB_FILES[1]
    tensors = tensors_path(given)
    beside = tensors.with_suffix(".json")
    if tensors.name == HUB_FILES[0] and not beside.exists():
        beside = tensors.with_name(HUB_FILES[1])
    return tensors, beside


def _read_description(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(
            f"{path} is missing: a network is a pair of files, the tensors (.safetensors) and the description (.json)."
        )
    stated: dict[str, Any] = load_json(path)
    check_version(path, stated)
    forms = {
        "architecture": dict,
        "quantization": dict | None,
        "form": str,
        "sha256": str,
        "digest": str,
        "bytes": int,
    }
    wrong = [key for key, kind in forms.items() if key not in stated or not isinstance(stated[key], kind)]
    wrong += [key for key in ("info", "extra", "packed") if not isinstance(stated.get(key, {}), dict)]
    if wrong:
        raise InputError(f"{path} is damaged: {', '.join(wrong)} missing or of another type.")
    return stated


def read_pair(path: PathLike) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The name for messages, the description and the tensors of a pair of files, checked against each other.

    Raises:
        InputError: a file is missing or damaged, or the two do not belong together.
    """
    file, beside = _locate(path)
    stated = _read_description(beside)
    try:
        size = file.stat().st_size
        if size != stated["bytes"]:
            raise InputError(
                f"{file} has {size:,} bytes and should have {stated['bytes']:,} by {beside.name}: "
                f"it is truncated, or belongs to another description."
            )
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror or error}.") from error
    if hashlib.sha256(data).hexdigest() != stated["sha256"]:
        raise InputError(
            f"{file} is not the file that {beside.name} describes (its SHA-256 differs): "
            f"it is damaged, or belongs to another description."
        )
    try:
        tensors = parse_safetensors(data)
        header = _header(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} is no valid safetensors file: {error}.") from error
    _check_identity(file, beside, header, stated, tensors)
    return str(file), stated, tensors


def _header(data: bytes) -> dict[str, Any]:
    """The description within the safetensors header."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["rolewise"])
    return found


def _check_identity(
    file: Path, beside: Path, header: dict[str, Any], stated: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    theirs = {key: stated[key] for key in _IDENTITY if key in stated}
    # Through JSON, as the header has been: tuples are lists there.
    found = [
        f"{place}: {shorten(left)} in {beside.name}, {shorten(right)} in {file.name}"
        for place, left, right in differences(theirs, header)
    ]
    if found:
        raise InputError(f"{beside} was changed after {file.name} was written:\n{listed(found)}")
    if digest_tensors(tensors) != stated["digest"]:
        raise InputError(
            f"The tensors of {file} are not those that {beside.name} describes (their digest differs)."
        )
