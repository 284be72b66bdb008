"""What a saved network says of itself: enough to build it again, and to notice what does not fit."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rolewise import networks
from rolewise.errors import InputError, InputTypeError
from rolewise.pretrained.tracing import plain_module
from rolewise.quant import quantization
from rolewise.runs.files import finite

FORMAT = "rolewise.network"
FORMAT_VERSION = 1
SHOWN = 5  # differences that an error lists


def tensor_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor in their logical order, whatever its device and memory format."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and numbers, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        found.update(tensor_bytes(tensor))
    return found.hexdigest()


def digest(model: nn.Module) -> str:
    """SHA-256 (hex) over the names and tensors of the network's `state_dict`."""
    return digest_tensors(plain_module(model).state_dict())


def count_classes(model: nn.Module) -> int | None:
    """The number of classes: as the architecture says, or the outputs of a last layer that is linear; else None."""
    architecture = getattr(model, "architecture", None)
    if isinstance(architecture, Mapping) and "num_classes" in architecture.get("arguments", {}):
        return int(architecture["arguments"]["num_classes"])
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    return layers[-1].out_features if layers and isinstance(layers[-1], nn.Linear) else None


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Architecture, number of classes and quantization, as JSON."""
    model = plain_module(model)
    architecture = getattr(model, "architecture", None)
    if not isinstance(architecture, Mapping):
        architecture = {"name": None, "class": type(model).__name__}
    return {
        "architecture": dict(architecture),
        "num_classes": count_classes(model),
        "quantization": quantization(model),
    }


def file_description(model: nn.Module, form: str, **more: Any) -> dict[str, Any]:
    """What the metadata of an ONNX or OpenVINO file state."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "form": form,
        **describe_model(model),
        **more,
    }


def check_version(path: Path, stated: Mapping[str, Any]) -> None:
    """Checks that a description is one of this package's, of a version that it reads.

    Raises:
        InputError: neither.
    """
    if not isinstance(stated, Mapping) or stated.get("format") != FORMAT:
        raise InputError(f'{path} does not describe a network (its "format" is not "{FORMAT}").')
    version = stated.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version}; this version of rolewise reads {FORMAT_VERSION}. "
            f"Read it with the version of rolewise that wrote it, or a newer one."
        )


def canonical(value: Any) -> str:
    """JSON whose text depends on the value alone."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def check_extra(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """`extra` as JSON will have it; NaN and infinities become null.

    Raises:
        InputTypeError: something that JSON cannot hold.
    """
    found: dict[str, Any] = finite(dict(extra or {}))
    try:
        return dict(json.loads(json.dumps(found)))
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"`extra` must be JSON (numbers, texts, lists, dicts): {error}.") from error


def differences(left: Any, right: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The places where two JSON values differ, as (place, left, right); a missing one is None."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in [*left, *(key for key in right if key not in left)]:
            yield from differences(left.get(key), right.get(key), f"{path}.{key}" if path else str(key))
    elif left != right:
        yield path, left, right


def shorten(value: Any) -> str:
    """A value for an error message."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(lines: list[str]) -> str:
    """The first few lines, and how many more there are."""
    more = len(lines) - SHOWN
    return "\n".join(f"  {line}" for line in lines[:SHOWN]) + (f"\n  ... and {more} more" if more > 0 else "")


def check_same(source: str, stated: Mapping[str, Any], model: nn.Module) -> None:
    """Checks that a network is the one that a file describes.

    Raises:
        InputError: other architecture, number of classes or quantization; the first differences are listed.
    """
    mine = describe_model(model)
    keys = ("architecture", "num_classes", "quantization")
    theirs: dict[str, Any] = {key: stated.get(key) for key in keys}
    if theirs["architecture"].get("name") is None or mine["architecture"].get("name") is None:
        # A network from outside the package has no description of its structure; its tensors identify it.
        theirs.pop("architecture"), mine.pop("architecture")
    found = [
        f"{place}: {shorten(left)} in the file, {shorten(right)} in the network"
        for place, left, right in differences(theirs, mine)
    ]
    if found:
        raise InputError(f"{source} holds another network:\n{listed(found)}")


def tensor_differences(
    theirs: Mapping[str, Tensor], mine: Mapping[str, Tensor], form: Callable[[Tensor], str]
) -> list[str]:
    """Where a file's tensors are not a network's, in names and in what `form` says of them; a line each."""
    found = [f"{name}: not in the file" for name in mine if name not in theirs]
    found += [f"{name}: not in the network" for name in theirs if name not in mine]
    found += [
        f"{name}: {form(tensor)} in the file, {form(mine[name])} in the network"
        for name, tensor in theirs.items()
        if name in mine and form(tensor) != form(mine[name])
    ]
    return found


def check_tensors(source: str, tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Checks names, shapes and types of a file's tensors against a network.

    Raises:
        InputError: the first differences are listed.
    """

    def form(tensor: Tensor) -> str:
        return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"

    if found := tensor_differences(tensors, model.state_dict(), form):
        raise InputError(f"The tensors of {source} do not fit the network:\n{listed(found)}")


def rebuild(source: str, stated: Mapping[str, Any]) -> nn.Module:
    """The float network that a file describes, with initial weights.

    Raises:
        InputError: a network from outside the package, or one whose builder refuses the arguments.
    """
    architecture = stated["architecture"]
    if architecture.get("name") is None:
        raise InputError(
            f"{source} holds a {architecture.get('class', 'network')}, which is not one of this package's networks: "
            f"build it yourself and give it, load_network(path, model=...)."
        )
    try:
        return networks.build(architecture["name"], **architecture["arguments"])
    except (InputError, TypeError, KeyError) as error:
        raise InputError(f"{source} describes a network that cannot be built: {error}") from error
