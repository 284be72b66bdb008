"""Folders in the layout of the Hugging Face Hub: `model.safetensors`, `config.json`, and a model card."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rolewise._version import __version__
from rolewise.errors import InputError
from rolewise.pretrained.description import describe_model
from rolewise.pretrained.files import load_network, write_pair
from rolewise.pretrained.hub import download
from rolewise.pretrained.info import NetworkInfo
from rolewise.pretrained.pair import HUB_FILES, PathLike
from rolewise.pretrained.targets import CARD, check_folder
from rolewise.quant import quantized_layers
from rolewise.runs import write_atomic


def save_pretrained(
    model: nn.Module,
    folder: PathLike,
    *,
    extra: Mapping[str, Any] | None = None,
    packed: bool = False,
    info: NetworkInfo | None = None,
) -> Path:
    """Writes `model.safetensors`, `config.json` and a model card (`README.md`) into a folder, made if need be.

    Args:
        model: any network.
        folder: folder to write to. An earlier export there is replaced; files of another origin are not.
        extra: more to keep, JSON; the card shows `data`, `classes`, `accuracy` and `teacher` if they are there.
        packed: as in `save_network`.
        info: preparation of images, classes, and origin of the network; the card shows it.

    Returns:
        The folder.

    Raises:
        InputError: `packed` for a network without quantized weights, or a folder that holds other files of these names.
    """
    target = Path(folder)
    check_folder(target)
    target.mkdir(parents=True, exist_ok=True)
    tensors, config = (target / name for name in HUB_FILES)
    write_pair(model, tensors, config, extra=extra, packed=packed, info=info)
    stated = {**(extra or {}), **({} if info is None else info.to_json())}
    text = model_card(model, stated, size=tensors.stat().st_size, packed=packed)
    # A class name may hold what UTF-8 has no form for: a folder's name in another encoding.
    write_atomic(target / CARD, text.encode("utf-8", "replace"))
    return target


def from_pretrained(
    source: PathLike, *, model: nn.Module | None = None, revision: str | None = None
) -> nn.Module:
    """The network of a folder that `save_pretrained` wrote, or of a repository of the Hugging Face Hub.

    Args:
        source: a folder; or, if there is none of that name, a repository `owner/name`.
        model: the network to load into, for networks from outside the package.
        revision: Hub only: a branch, tag or commit.

    Returns:
        The network, in eval mode.

    Raises:
        InputError: no such folder, or a damaged one.
        RunError: the Hub cannot be reached.
        MissingExtraError: a repository, and the package huggingface_hub is not installed.
    """
    if Path(source).is_dir():
        return load_network(source, model=model)
    name = str(source)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(
            f"`source` must be a folder or a Hub repository owner/name; there is no folder {name}."
        )
    return load_network(download(name, revision=revision), model=model)


def model_card(model: nn.Module, extra: Mapping[str, Any], *, size: int, packed: bool) -> str:
    """The text of the model card, Markdown with the Hub's YAML header.

    Args:
        model: the network.
        extra: `extra` and `info` of `save_pretrained`, in one.
        size: bytes of the tensors' file.
        packed: True if its weights are packed codes.
    """
    stated = describe_model(model)
    name = stated["architecture"].get("name") or stated["architecture"].get("class")
    quantization = stated["quantization"]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = [
        ("Architecture", f"{name}, {stated['num_classes']} classes"),
        ("Parameters", f"{parameters:,}"),
        ("File", f"{size:,} bytes{', quantized weights packed' if packed else ''}"),
        ("Quantization", _bits(model, quantization) if quantization else "none (float32)"),
    ]
    for key, title in (
        ("data", "Data"),
        ("teacher", "Distilled from"),
        ("schedule", "Augmentation schedule"),
    ):
        if extra.get(key):
            rows.append((title, str(extra[key])))
    accuracy = extra.get("accuracy")
    if isinstance(accuracy, int | float) and math.isfinite(accuracy):
        images = extra.get("test_images")
        of = f" of {images:,} images" if isinstance(images, int) else ""
        rows.append(("Test accuracy", f"{100 * accuracy:.2f} %{of}"))
    rows += _preparation(extra.get("preprocessing"))
    if made := extra.get("made"):
        rows.append(("Made by", ", ".join(f"{key} {value}" for key, value in made.items())))
    classes = extra.get("classes")
    if isinstance(classes, list | tuple) and classes:
        shown = ", ".join(str(one) for one in classes[:20])
        rows.append(("Classes", shown + (f", ... ({len(classes)})" if len(classes) > 20 else "")))
    table = "\n".join(f"| {title} | {_cell(value)} |" for title, value in rows)
    argument = "" if stated["architecture"].get("name") else ", model=...  # the network, built by you"
    return (
        "---\nlibrary_name: rolewise\npipeline_tag: image-classification\ntags:\n- rolewise\n"
        f"{'- quantized' + chr(10) if quantization else ''}---\n\n"
        f"# {name}{', low-bit' if quantization else ''}\n\n| | |\n|---|---|\n{table}\n\n"
        "```python\nimport rolewise as rw\n\n"
        f'model = rw.from_pretrained("FOLDER"{argument})\n'
        "logits = model(images)  # (n, 3, h, w), float32: (pixels / 255 - mean) / std\n```\n\n"
        f"Written by rolewise {__version__}. `config.json` holds the architecture, the quantization and the SHA-256 of "
        "`model.safetensors`.\n"
    )


def _preparation(steps: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What turns an image into the network's input."""
    if steps is None:
        return []
    height, width = steps["size"]
    mean, std = (", ".join(f"{one:.6g}" for one in steps[key]) for key in ("mean", "std"))
    return [
        ("Input", f"{height} x {width} pixels, {steps['channels']}, channels first"),
        ("Normalization", f"(pixels / 255 - mean) / std, mean ({mean}), std ({std})"),
    ]


def _cell(value: str) -> str:
    """A text within a Markdown table: on one line, its bars and angle brackets as characters."""
    return " ".join(value.replace("|", "\\|").replace("<", "&lt;").split())


def _bits(model: nn.Module, quantization: Mapping[str, Any]) -> str:
    """Such as "dorefa, weights 2 bits (19 layers), activations 2 bits (16 act points)"."""
    layers = quantized_layers(model).values()

    def count(kind: str, noun: str) -> str:
        found: dict[int, int] = {}
        for layer in layers:
            bits = layer.weights if kind == "weights" else layer.activations
            if bits is not None:
                found[bits] = found.get(bits, 0) + 1
        parts = [
            f"{bits} bits ({number} {noun}{'s' if number > 1 else ''})"
            for bits, number in sorted(found.items())
        ]
        return f"{kind} {', '.join(parts)}" if parts else f"{kind} float"

    return f"{quantization['method']}, {count('weights', 'layer')}, {count('activations', 'act point')}"
