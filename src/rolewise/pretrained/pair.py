"""The pair of files of a network: where they are, and reading them so that neither has changed unnoticed."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from rolewise.errors import InputError
from rolewise.pretrained.description import check_version, differences, digest_tensors, listed, shorten
from rolewise.runs import load_json

SUFFIX = ".safetensors"
HUB_FILES = ("model.safetensors", "config.json")
_IDENTITY = ("form", "architecture", "num_classes", "quantization", "packed", "info", "exported", "digest")

PathLike = str | os.PathLike[str]


def tensors_path(path: PathLike) -> Path:
    """`X.safetensors` from `X` or `X.safetensors`.

    Raises:
        InputError: the suffix of another kind of file.
    """
    target = Path(path)
    if target.suffix == SUFFIX:
        return target
    if target.suffix in (".pt", ".pth", ".bin", ".onnx", ".json", ".ckpt"):
        raise InputError(f'`path` must end in "{SUFFIX}" or have no suffix, got "{target}".')
    return target.with_name(target.name + SUFFIX)


def locate(path: PathLike) -> tuple[Path, Path]:
    """The tensors' file and the description's."""
    given = Path(path)
    if given.is_dir():
        return given / HUB_FILES[0], given / HUB_FILES[1]
    tensors = tensors_path(given)
    beside = tensors.with_suffix(".json")
    if tensors.name == HUB_FILES[0] and not beside.exists():
        beside = tensors.with_name(HUB_FILES[1])
    return tensors, beside


def read_description(path: Path) -> dict[str, Any]:
    """What the JSON of a pair states, checked on its own.

    Raises:
        InputError: it is missing, damaged, or of another kind or version.
    """
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
    file, beside = locate(path)
    stated = read_description(beside)
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
