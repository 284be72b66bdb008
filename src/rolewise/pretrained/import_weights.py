"""Weights from elsewhere: a `.pth` of RepDistiller, mdistiller, or any training script, into a network of this package.

Only tensors are read (`torch.load(weights_only=True)`): nothing in the file is run.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.pretrained.description import listed, tensor_differences
from rolewise.pretrained.pair import SUFFIX, PathLike

# Entries under which training scripts keep the network's state.
_KEYS = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "network",
    "student",
    "teacher",
    "model_state",
    "weights",
)
_COUNTER = "num_batches_tracked"  # of BatchNorm; not used by these networks, and absent in old files
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "student.")


def read_state(path: PathLike) -> dict[str, Tensor]:
    """The tensors of a `.pth`, `.pt`, `.bin` or `.safetensors` file, by name.

    The entry that training scripts keep the network in is found by its usual names; the prefixes that DataParallel and
    `torch.compile` put before every name are removed.

    Raises:
        InputError: no file, no file of tensors, or one that would run code.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"There is no file {file}.")
    if file.suffix == SUFFIX:
        from safetensors.torch import load_file

        try:
            found: Any = load_file(file)
        except Exception as error:  # safetensors raises its own class
            raise InputError(f"{file} is no valid safetensors file: {error}.") from error
    else:
        try:
            found = _torch_load(file)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{file} holds more than tensors and plain values, which only running its code could read. Save the "
                f"state alone where it was made: torch.save(model.state_dict(), path)."
            ) from error
        except (
            OSError,
            RuntimeError,
            EOFError,
            ValueError,
            zipfile.BadZipFile,
            KeyError,
            IndexError,
        ) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise InputError(f"{file} cannot be read as tensors: {reason}.") from error
    return _plain_names(_state(found, file))


def _torch_load(file: Path) -> Any:
    """What a file of `torch.save` holds: tensors, plain values, and NumPy's numbers, such as a best accuracy."""
    scalar = np.float64(0).__reduce__()[0]
    numbers: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    numbers += [np.dtype, *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?"))]
    with warnings.catch_warnings(), torch.serialization.safe_globals(numbers):
        warnings.simplefilter("ignore")  # what it finds odd is read all the same, or refused
        return torch.load(file, map_location="cpu", weights_only=True)


def _state(found: Any, file: Path) -> dict[str, Tensor]:
    """The mapping from names to tensors within what was loaded."""
    entries = found if isinstance(found, Mapping) else {}
    tensors = {str(name): value for name, value in entries.items() if isinstance(value, Tensor)}
    if tensors and len(tensors) == len(entries):
        return tensors
    for key in _KEYS:
        if isinstance(entries.get(key), Mapping):
            return _state(entries[key], file)
    if tensors:
        return tensors
    keys = ", ".join(f'"{key}"' for key in list(entries)[:8]) or type(found).__name__
    raise InputError(f"{file} holds no state of a network under a known name; it holds {keys}.")


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while True:
        prefix = next((one for one in _PREFIXES if all(name.startswith(one) for name in tensors)), None)
        if prefix is None:
            return {name.replace("._orig_mod.", "."): tensor for name, tensor in tensors.items()}
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _resnet(name: str) -> str:
    """RepDistiller's and mdistiller's ResNets: the shortcut is `downsample`."""
    return name.replace(".downsample.", ".shortcut.")


def _wide_resnet(name: str) -> str:
    """Their WRNs: `block1.layer.0`, the shortcut is `convShortcut`, the last norm `bn1`."""
    name = re.sub(r"^block(\d)\.layer\.", r"layer\1.", name)
    return re.sub(r"^bn1\.", "bn.", name).replace(".convShortcut.", ".shortcut.")


def _vgg(name: str) -> str:
    """Their VGGs: `block0` to `block4`, and `classifier`."""
    return re.sub(r"^block(\d)\.", r"stage\1.", name).replace("classifier.", "fc.")


_MAPS: tuple[Callable[[str], str], ...] = (str, _resnet, _wide_resnet, _vgg)


def fit_names(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors under the names of `model`: as they are, or as one of the known libraries names them.

    Raises:
        InputError: nothing fits; the first differences to the nearest fit are listed.
    """
    mine: dict[str, Tensor] = {
        name: tensor for name, tensor in model.state_dict().items() if not name.endswith(_COUNTER)
    }
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}
    nearest: list[str] | None = None
    for rename in _MAPS:
        renamed = {rename(name): tensor for name, tensor in given.items()}
        found = tensor_differences(renamed, mine, lambda tensor: str(tuple(tensor.shape)))
        if not found:
            return renamed
        nearest = found if nearest is None or len(found) < len(nearest) else nearest
    raise InputError(f"The tensors do not fit {_name(model)}:\n{listed(nearest or [])}")


def _name(model: nn.Module) -> str:
    architecture = getattr(model, "architecture", None)
    name = architecture.get("name") if isinstance(architecture, Mapping) else None
    return f'the network "{name}"' if name else type(model).__name__


def import_weights(path: PathLike, model: nn.Module) -> nn.Module:
    """Loads the tensors of a file from elsewhere into `model`, all of them and no others.

    Args:
        path: `.pth`, `.pt`, `.bin` or `.safetensors`.
        model: a float network; it is changed and returned, in eval mode.

    Raises:
        InputError: the file cannot be read, or does not fit; nothing is changed then.
    """
    fitted = fit_names(read_state(path), model)
    state = model.state_dict()
    wrong = [name for name, tensor in fitted.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise InputError(f"{path}: {len(wrong)} tensors hold NaN or infinity:\n{listed(wrong)}")
    state.update({name: tensor.to(state[name].dtype) for name, tensor in fitted.items()})
    model.load_state_dict(state, strict=True)
    return model.eval()
