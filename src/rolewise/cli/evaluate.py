"""`rolewise eval` and `rolewise doctor`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rolewise._machine import cores
from rolewise._roles import ROLES
from rolewise.cli import common
from rolewise.cli.network_files import data_for, run_settings_of
from rolewise.errors import InputError


def evaluate(
    target: Annotated[
        Path, typer.Argument(help="A .safetensors, .onnx or .xml file, a saved folder, or a run directory.")
    ],
    data: common.DataName = None,
    data_root: common.DataRoot = None,
    device: common.Device = None,
    batch_statistics: Annotated[
        bool,
        typer.Option("--batch-statistics", help="Batch norm over each test batch, as the paper's code did."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a line.")] = False,
) -> None:
    """Measures a network on a test set (by default the one that it was trained for)."""
    from rolewise.runs import layout

    if target.is_dir() and (target / layout.RESULTS).is_file():
        files = [target / layout.network_file(role) for role in ROLES]
        files = [file for file in files if file.is_file()]
    else:
        files = [target]
    if not files:
        raise InputError(f"{target} holds no trained network yet.")
    for file in files:
        found = _measure(file, data, data_root, device or "cpu", batch_statistics)
        if as_json:
            print(json.dumps(found))
        else:
            numbers = f"accuracy {100 * found['accuracy']:.2f} %, loss {found['loss']:.4f}"
            print(f"{file}: {numbers}, {found['n']} test images of {found['data']}")


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
    file: Path, name: str | None, root: str | None, device: str, batch_statistics: bool
) -> dict[str, Any]:
    from rolewise.pretrained import any_network, describe
    from rolewise.trainer import TrainSettings, evaluate, torch_threads

    about = describe(file)
    name, data = data_for(about, run_settings_of(file), name, root, file=file)
    model = any_network(file)
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
        )
    return {"file": str(file), "data": name, "accuracy": found.accuracy, "loss": found.loss, "n": found.n}
