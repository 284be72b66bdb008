"""`rolewise export`: a trained network in the form that another program reads, and what it costs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rolewise._roles import ROLES
from rolewise.cli.networks import Target, run_settings
from rolewise.errors import InputError


def export(
    source: Annotated[
        Path, typer.Argument(help="A .safetensors file, a saved folder, or a run directory (its student).")
    ],
    target: Annotated[
        list[Path] | None,
        typer.Argument(help="What to write: files (.safetensors packed, .onnx) or a folder (Hub layout)."),
    ] = None,
    role: Annotated[str, typer.Option("--role", help="Of a run directory: student or teacher.")] = "student",
    report: Annotated[bool, typer.Option("--report", help="Print sizes, operations and latency.")] = False,
    network: Annotated[
        str | None, typer.Option("--network", help="Own code of the network, FILE.py:NAME, which is run.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", help="Height and width, for ONNX and the report (default: the run's)."),
    ] = None,
    opset: Annotated[
        int | None, typer.Option("--opset", help="Of ONNX: 21 or later (default: as needed).")
    ] = None,
    packed: Annotated[
        bool, typer.Option("--packed", help="A folder with packed weights, for inference.")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", help="Of onnxruntime, for the latency.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
) -> None:
    """Writes a trained network as packed safetensors, ONNX or a Hub folder, and measures what it costs."""
    if not target and not report:
        raise InputError("Give a file or folder to write, or `--report`.")
    from rolewise import pretrained

    one = _target(source, role, network)
    file, model = one.file, one.network(network)
    extra = pretrained.describe(file)["extra"]
    size = _size(one, image_size)
    for path in target or []:
        if path.suffix:
            print(pretrained.export(model, path, image_size=size, opset=opset, extra=extra))
        else:
            print(pretrained.save_pretrained(model, path, extra=extra, packed=packed))
    if report:
        found = pretrained.cost_report(model, image_size=size, threads=threads)
        print(json.dumps(found) if as_json else pretrained.format_report(found))


def _target(source: Path, role: str, network: str | None) -> Target:
    """The network that a path means."""
    if role not in ROLES:
        raise InputError(f'`--role` must be student or teacher, got "{role}".')
    if not source.exists() and not source.with_name(source.name + ".safetensors").exists():
        raise InputError(f"There is no file or folder {source}.")
    if source.suffix == ".onnx":
        raise InputError(f"{source} is an export already; give the .safetensors file that it came from.")
    if not source.is_dir() or (source / "model.safetensors").exists():
        return Target(source)
    from rolewise.runs import layout

    file = source / layout.network_file(role)
    if not file.exists():
        raise InputError(f"{source} holds no {file.name}: its training has not ended yet.")
    return Target(file, role, run_settings(source, {f"{role}.network": network}))


def _size(target: Target, given: int | None) -> tuple[int, int]:
    """Height and width of the images: those that the command names, else those that the network was trained on."""
    from rolewise.pretrained import describe

    if given is not None:
        return given, given
    image = describe(target.file).get("image")
    return (int(image[1]), int(image[2])) if isinstance(image, list) and len(image) == 3 else (32, 32)
