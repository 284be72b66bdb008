"""Networks on disk: `X.safetensors` with the tensors, `X.json` beside it with all that is needed to build it.

The JSON holds the SHA-256 of the safetensors file, and the file's own header repeats the description, so that
neither of the two can change unnoticed. Nothing is unpickled and no code is run.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    describe_model,
    digest_tensors,
    listed,
    rebuild,
    tensor_bytes,
)
from rolewise.pretrained.info import NetworkInfo, check_info
from rolewise.pretrained.packed_weights import pack_weights, unpack_weights
from rolewise.pretrained.pair import PathLike, locate, read_description, read_pair, tensors_path
from rolewise.pretrained.tracing import plain_module
from rolewise.quant import apply_quantization, quantization
from rolewise.runs import to_json, write_atomic

COMPILED = "_orig_mod."  # what torch.compile puts into the names of a part that it wraps


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
        stated = read_description(locate(path)[1])
    found = {**stated.get("extra", {}), **stated.get("info", {}), **stated}
    try:
        check_info(NetworkInfo.from_json(found), found.get("num_classes"))
    except InputError as error:
        raise InputError(f"{path} describes its use in a way that cannot be: {error}") from error
    return found
