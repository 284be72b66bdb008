"""What an export may overwrite: its own earlier output, and nothing else."""

import json
from pathlib import Path
from typing import Any

from rolewise.errors import InputError
from rolewise.pretrained.description import FORMAT
from rolewise.pretrained.pair import HUB_FILES
from rolewise.runs.layout import METRICS, RESULTS, STAGES

CARD = "README.md"  # the model card of a Hub folder
_LONGEST_HEADER = 100_000_000  # bytes
_RUN_FILES = (RESULTS, STAGES, METRICS)


def check_target(target: Path) -> None:
    """Checks that a file may be written.

    Args:
        target: `X.safetensors`, `X.onnx` or `X.xml`.

    Raises:
        InputError: it, or its companion file, exists and is no earlier export of this kind; it belongs to a run; or
            its folder is missing.
    """
    if not target.parent.is_dir():
        raise InputError(f"`path`: there is no folder {target.parent}. Make it first.")
    for file in (target, *(target.with_suffix(one) for one in _BESIDE.get(target.suffix, ()))):
        if file.is_dir():
            raise InputError(f"`path`: {file} is a folder.")
        if file.exists() and not _OWN[file.suffix](file):
            raise InputError(
                f"`path`: {file} is there and is not an earlier export. Choose another name, or remove it."
            )
    if target.exists() and belongs_to_run(target):
        raise InputError(f"`path`: {target} belongs to the run {target.parent}. Choose another name.")


def belongs_to_run(file: Path) -> bool:
    """Whether a network file is one that a run wrote into its directory."""
    roles = ("teacher", "student")
    return file.stem.startswith(roles) and any((file.parent / name).exists() for name in _RUN_FILES)


def check_folder(folder: Path) -> None:
    """Checks that a Hub folder may be written: each of its files is absent or an earlier one.

    Raises:
        InputError: a file of another origin, or a run directory.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`folder`: {folder} is a file.")
    tensors, config = (folder / name for name in HUB_FILES)
    taken = [
        file
        for file, own in (
            (tensors, lambda _: config.exists()),
            (config, _is_description),
            (folder / CARD, _is_card),
        )
        if file.exists() and not own(file)
    ]
    if taken:
        raise InputError(
            f"`folder`: {taken[0]} is there and was not written by an earlier export. Choose another folder."
        )


def _is_card(file: Path) -> bool:
    return file.read_bytes()[:200].startswith(b"---\nlibrary_name: rolewise\n")


def _is_description(file: Path) -> bool:
    try:
        stated: Any = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(stated, dict) and stated.get("format") == FORMAT


def _is_export(file: Path) -> bool:
    """Whether a safetensors file's header says that `export` wrote it: it holds codes, or is marked."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _LONGEST_HEADER:
                return False
            stated = json.loads(json.loads(stream.read(length))["__metadata__"]["rolewise"])
        return stated["form"] == "packed" or stated.get("exported") is True
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _has_mark(mark: bytes) -> Any:
    """A test for a file that ends with our seal, damaged or not."""

    def check(file: Path) -> bool:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 400))
            return mark in stream.read()

    return check


_BESIDE = {".safetensors": (".json",), ".xml": (".bin",)}
_OWN = {
    ".safetensors": _is_export,
    ".json": _is_description,
    ".onnx": _has_mark(b"rolewise.sha256"),
    ".xml": _has_mark(b"<!-- rolewise sha256 "),
    ".bin": lambda file: file.with_suffix(".xml").exists(),
}
