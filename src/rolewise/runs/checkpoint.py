"""One checkpoint: a folder of safetensors and JSON with a manifest of sizes and SHA-256, or no folder at all.

    ckpt-000012/
      manifest.json            format, step, size and SHA-256 of every other file, and a digest of itself
      state.json               whatever JSON the caller keeps
      member-00.safetensors    one file per group of tensors; a group equal to another one refers to its file

Neither safetensors nor `torch.load` notices a flipped bit; the digests do. A checkpoint is written under a
temporary name, flushed, and renamed; it never changes after that.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from rolewise.errors import InputError, RunError
from rolewise.runs.files import check_name, flush, load_json, to_json, write_new

FORMAT = "rolewise.checkpoint"
FORMAT_VERSION = 1
FOLDER = re.compile(r"ckpt-(\d{6,})(?:\.(\d+))?")  # step, and how often it had been saved before


class Damaged(Exception):  # noqa: N818 - never leaves this package
    """A checkpoint that does not verify; the text says which file and why."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verified.

    Attributes:
        path: its folder.
        step: the number it was saved with (a training's epochs, a search's rounds).
        state: the JSON it was saved with.
        names: its groups of tensors.
        best: True if it was the best when it was saved.
    """

    path: Path
    step: int
    state: dict[str, Any]
    names: tuple[str, ...]
    best: bool
    manifest: Mapping[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """One group of tensors, on the CPU.

        Raises:
            InputError: it holds no such group.
            RunError: the file changed since it was verified, or is no safetensors file.
        """
        if name not in self.manifest["tensors"]:
            known = ", ".join(f'"{known}"' for known in self.names)
            raise InputError(f'{self.path} holds no tensors "{name}". It holds: {known or "none"}.')
        file = self.manifest["tensors"][name]
        path = self.path / file
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != self.manifest["files"][file]["sha256"]:
                raise RunError(f"{path} changed after it was verified.")
            return safetensors.torch.load(data)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise RunError(f"Cannot read the tensors of {path}: {error}.") from error


def write(
    folder: Path, step: int, groups: Mapping[str, Mapping[str, Tensor]], state: bytes, *, best: bool
) -> None:
    """Fill the new `folder` with a checkpoint, and flush it."""
    files: dict[str, dict[str, Any]] = {}
    tensors: dict[str, str] = {}
    homes: dict[str, str] = {}

    def put(name: str, data: bytes, digest: str) -> None:
        write_new(folder / name, data)
        files[name] = {"size": len(data), "sha256": digest}

    for name, group in groups.items():
        data = safetensors.torch.save(_plain(group))
        digest = hashlib.sha256(data).hexdigest()
        if digest not in homes:  # a member that was just cloned has the tensors of its source
            homes[digest] = f"{check_name(name)}.safetensors"
            put(homes[digest], data, digest)
        tensors[check_name(name)] = homes[digest]
    put("state.json", state, hashlib.sha256(state).hexdigest())
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "step": step, "best": best}
    manifest |= {"tensors": tensors, "files": files}
    write_new(folder / "manifest.json", to_json(manifest | {"digest": _digest(manifest)}))
    # Flushing after all are written lets the disk take them together.
    for name in [*files, "manifest.json"]:
        flush(folder / name)
    flush(folder)


def verify(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, once every byte of it is known to be right.

    Raises:
        Damaged: it is not whole; the text says which file and why.
        InputError: it is of a later format than this version reads.
    """
    try:
        manifest = load_json(folder / "manifest.json")
    except InputError as error:
        raise Damaged(str(error).rstrip(".")) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise Damaged("manifest.json is not a checkpoint's")
    # Every version's manifest ends with this digest, so that a flipped bit never passes for a later version.
    if manifest.get("digest") != _digest({key: value for key, value in manifest.items() if key != "digest"}):
        raise Damaged("manifest.json does not agree with its own digest")
    if manifest["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{folder} has format version {manifest['format_version']}; this version of rolewise reads up to "
            f"{FORMAT_VERSION}. Use the version that wrote it, or a later one."
        )
    match = FOLDER.fullmatch(folder.name)
    if match is None or int(match[1]) != manifest["step"]:
        raise Damaged(f"manifest.json is that of step {manifest['step']}")
    for name, entry in manifest["files"].items():
        _verify_file(folder / check_name(name), entry["size"], entry["sha256"])
    state = load_json(folder / "state.json")
    return Checkpoint(folder, manifest["step"], state, tuple(manifest["tensors"]), manifest["best"], manifest)


def says_best(folder: Path) -> bool:
    """Whether the manifest in `folder` says that it was the best; False if it says nothing readable."""
    try:
        return bool(load_json(folder / "manifest.json")["best"])
    except (InputError, KeyError, TypeError):
        return False


def _plain(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, contiguous, no two over the same memory."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in group.items():
        tensor = tensor.detach().cpu().contiguous()
        whole = tensor.untyped_storage().nbytes() == tensor.nbytes
        if not whole or tensor.data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.data_ptr())
        plain[name] = tensor
    return plain


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json(manifest, indent=None)).hexdigest()


def _verify_file(path: Path, size: int, sha256: str) -> None:
    try:
        found = path.stat().st_size
        if found != size:
            raise Damaged(f"{path.name} has {found} bytes instead of {size}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read ({error.strerror or error})") from error
    if digest != sha256:
        raise Damaged(f"{path.name} does not have the SHA-256 it was written with")
