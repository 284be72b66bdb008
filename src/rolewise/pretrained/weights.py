"""Weights from elsewhere (`.pth`, `.pt`, `.safetensors`) for a network that is built already."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rolewise.errors import InputError, check_path
from rolewise.pretrained.description import listed

# What wrappers put before every name: DataParallel, torch.compile, Lightning and others.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# Where training scripts keep the weights among other things.
_PLACES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
_COUNTER = "num_batches_tracked"  # files of old versions of torch lack it, and nothing here reads it


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name, the prefixes of wrappers removed. Nothing in it is executed.

    Raises:
        InputError: no such file, another format, or more in it than plain tensors and numbers.
    """
    file = check_path("weights", path)
    if not file.is_file():
        raise InputError(f"There is no file {file}.")
    try:
        found: Any = load_file(file) if file.suffix == ".safetensors" else _torch_load(file)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{file} holds more than tensors, perhaps a whole network: it is not loaded, since that would run code "
            f"from it. Save the weights alone, torch.save(model.state_dict(), PATH). ({_first_line(error)})"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{file} is no file of weights that can be read: {_first_line(error)}") from None
    return _unprefixed(_tensors(found, file))


def load_weights(model: nn.Module, path: str | Path) -> dict[str, str]:
    """Loads weights into a network, in place; every name and shape must fit.

    Args:
        model: a float network.
        path: `.pth`, `.pt` (a state dict, or a checkpoint that holds one), or `.safetensors`.

    Returns:
        `file` and `sha256`, for records.

    Raises:
        InputError: what `read_weights` refuses, and other names or shapes than the network's; the first differences
            are listed.
    """
    tensors = read_weights(path)
    mine: dict[str, Tensor] = model.state_dict()
    missing = [name for name in mine if name not in tensors and not name.endswith(_COUNTER)]
    faults = [f"{name}: not in the file" for name in missing]
    faults += [f"{name}: not in the network" for name in tensors if name not in mine]
    faults += [
        f"{name}: {tuple(tensor.shape)} in the file, {tuple(mine[name].shape)} in the network"
        for name, tensor in tensors.items()
        if name in mine and tensor.shape != mine[name].shape
    ]
    if faults:
        raise InputError(
            f"The weights of {path} are not those of the network {type(model).__name__} ({len(faults)} differences, "
            f"{len(mine)} tensors):\n{listed(faults)}"
        )
    wrong = [name for name, tensor in tensors.items() if not torch.isfinite(tensor.float()).all()]
    if wrong:
        raise InputError(f"{path} holds values that are not finite, in {', '.join(wrong[:3])}.")
    with torch.no_grad():
        for name, tensor in tensors.items():
            mine[name].copy_(tensor)
    digest = hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    return {"file": Path(path).name, "sha256": digest}


def _torch_load(file: Path) -> Any:
    """What a file of `torch.save` holds: tensors, plain values, and NumPy's numbers, such as a best accuracy."""
    scalar = np.float64(0).__reduce__()[0]
    numbers: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    numbers += [np.dtype, *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?"))]
    with warnings.catch_warnings(), torch.serialization.safe_globals(numbers):
        warnings.simplefilter("ignore")  # what it finds odd is read all the same, or refused
        return torch.load(file, map_location="cpu", weights_only=True)


def _tensors(found: Any, file: Path) -> dict[str, Tensor]:
    """The state dict itself, or the first one among what a checkpoint holds."""
    if isinstance(found, Mapping):
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
        if tensors and len(tensors) == len(found) and all(isinstance(name, str) for name in tensors):
            return tensors
        for place in _PLACES:
            inner = found.get(place)
            if isinstance(inner, Mapping) and inner and all(isinstance(v, Tensor) for v in inner.values()):
                return dict(inner)
    came = f"a {type(found).__name__}"
    if isinstance(found, Mapping):
        came += f" with {', '.join(repr(key) for key in list(found)[:6])}"
    raise InputError(
        f"{file} holds no weights by name: it must be a state dict, or hold one under {', '.join(_PLACES)}; got {came}."
    )


def _unprefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers put before all of them."""
    while True:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
