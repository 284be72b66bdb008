"""`rolewise eval` and `rolewise doctor`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rolewise._machine import cores
from rolewise._roles import ROLES
from rolewise.cli import common
from rolewise.cli.network_files import check_there, checked_run, data_for, is_run, open_network, role_of
from rolewise.errors import InputError


def evaluate(
    target: Annotated[
        Path, typer.Argument(help="A .safetensors, .onnx or .xml file, a saved folder, or a run directory.")
    ],
    data: common.DataName = None,
    data_root: common.DataRoot = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Own code of the network, FILE.py:NAME, which is run.")
    ] = None,
    device: common.Device = None,
    batch_statistics: Annotated[
        bool,
        typer.Option("--batch-statistics", help="Batch norm over each test batch, as the paper's code did."),
    ] = False,
    per_class: Annotated[
        bool,
        typer.Option("--per-class", help="Also what is recognized of each class, and what it is taken for."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a line.")] = False,
) -> None:
    """Measures a network on a test set (by default the one that it was trained for)."""
    from rolewise.runs import layout

    check_there(target)
    if is_run(target):
        files = [target / layout.network_file(role) for role in ROLES]
        files = [file for file in files if file.is_file()]
    else:
        files = [target]
    if not files:
        raise InputError(f"{target} holds no trained network yet.")
    for file in files:
        found = _measure(file, network, data, data_root, device or "cpu", batch_statistics, per_class)
        if as_json:
            print(json.dumps(found))
        else:
            numbers = f"accuracy {100 * found['accuracy']:.2f} %, loss {found['loss']:.4f}"
            print(f"{file}: {numbers}, {found['n']} test images of {found['data']}")
            if per_class:
                print_classes(found)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """What this machine has, and what is missing."""
    from rolewise.doctor import examine

    found = examine()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    _print(found)


def _print(tree: dict[str, Any], indent: int = 0) -> None:
    for key, value in tree.items():
        if isinstance(value, dict):
            print(" " * indent + f"{key}:")
            _print(value, indent + 2)
        else:
            print(" " * indent + f"{key}: {value}")


def _measure(
    file: Path,
    network: str | None,
    name: str | None,
    root: str | None,
    device: str,
    batch_statistics: bool,
    per_class: bool,
) -> dict[str, Any]:
    from rolewise.pretrained import describe
    from rolewise.trainer import TrainSettings, confusion_matrix, evaluate, per_class_accuracy, torch_threads

    about = describe(file)
    config = checked_run(file, role_of(file), network, name)
    name, data = data_for(about, config, name, root, file=file)
    model = open_network(file, about, config, network)
    # An exported file computes in float32, and a file of weights is measured as its owner would use it: float32 too.
    placement = TrainSettings(1, device=device, precision="fp32").placement()
    if file.suffix not in (".onnx", ".xml"):
        model = placement.place(model)
    steps = about.get("preprocessing") or {}
    with torch_threads(cores()):
        found = evaluate(
            model,
            data.test,
            mean=tuple(steps.get("mean", data.train.mean)),
            std=tuple(steps.get("std", data.train.std)),
            placement=placement,
            batch_statistics=batch_statistics,
            keep_logits=per_class,
        )
    row: dict[str, Any] = {"file": str(file), "data": name}
    row |= {"accuracy": found.accuracy, "loss": found.loss, "n": found.n}
    if found.logits is not None:
        matrix = confusion_matrix(found.logits, data.test.labels)
        row["classes"] = list(data.classes)
        row |= {"accuracy_per_class": per_class_accuracy(matrix), "confusion": matrix.tolist()}
    return row


def print_classes(found: Mapping[str, Any]) -> None:
    """The classes with their accuracies and, up to 20 of them, the confusion matrix."""
    names, matrix = found["classes"], found["confusion"]
    width = max(len(name) for name in names)
    for name, accuracy, row in zip(names, found["accuracy_per_class"], matrix, strict=True):
        share = "no images" if accuracy is None else f"{100 * accuracy:6.2f} % of {sum(row)}"
        print(f"  {name:{width}}  {share}")
    if len(names) <= 20:
        digits = max(len(str(value)) for row in matrix for value in row)
        print("  what each class (row) is taken for (columns in the same order):")
        for name, row in zip(names, matrix, strict=True):
            print(f"  {name:{width}}  " + " ".join(f"{value:{digits}}" for value in row))
