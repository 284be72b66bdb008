"""`rolewise export`: a trained network in the form that another program reads, and what it costs."""

import json
from pathlib import Path
from typing import Annotated

import typer

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
    image_size: Annotated[
        int, typer.Option("--image-size", help="Height and width, for ONNX and the report.")
    ] = 32,
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

    file = _network_file(source, role)
    model = pretrained.load_network(file)
    extra = pretrained.describe(file)["extra"]
    size = (image_size, image_size)
    for path in target or []:
        if path.suffix:
            print(pretrained.export(model, path, image_size=size, opset=opset, extra=extra))
        else:
            print(pretrained.save_pretrained(model, path, extra=extra, packed=packed))
    if report:
        found = pretrained.cost_report(model, image_size=size, threads=threads)
        print(json.dumps(found) if as_json else pretrained.format_report(found))


def _network_file(source: Path, role: str) -> Path:
    """The network that a path means."""
    if role not in ("student", "teacher"):
        raise InputError(f'`--role` must be student or teacher, got "{role}".')
    if not source.exists() and not source.with_name(source.name + ".safetensors").exists():
        raise InputError(f"There is no file or folder {source}.")
    if source.suffix == ".onnx":
        raise InputError(f"{source} is an export already; give the .safetensors file that it came from.")
    if not source.is_dir() or (source / "model.safetensors").exists():
        return source
    file = source / f"{role}.safetensors"
    if not file.exists():
        raise InputError(f"{source} holds no {role}.safetensors: its training has not ended yet.")
    return file
