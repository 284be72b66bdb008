"""`rolewise export`: a trained network in the form that another program reads, and what it costs."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from rolewise.cli.network_files import checked_run, info_for, network_file, open_network
from rolewise.cli.outcome import DONE, say
from rolewise.errors import InputError


def export(
    source: Annotated[
        Path, typer.Argument(help="A .safetensors file, a saved folder, or a run directory (its student).")
    ],
    target: Annotated[
        list[Path] | None,
        typer.Argument(
            help="What to write: files (.safetensors packed, .onnx, .xml for OpenVINO) or a folder (Hub layout)."
        ),
    ] = None,
    role: Annotated[str, typer.Option("--role", help="Network of a run: student or teacher.")] = "student",
    report: Annotated[bool, typer.Option("--report", help="Print sizes, operations and latency.")] = False,
    network: Annotated[
        str | None, typer.Option("--network", help="Own code of the network, FILE.py:NAME, which is run.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", help="Height and width of the images (default: those of the run, else 32)."
        ),
    ] = None,
    opset: Annotated[
        int | None, typer.Option("--opset", help="ONNX opset: 21 or later (default: as needed).")
    ] = None,
    packed: Annotated[
        bool, typer.Option("--packed", help="A folder with packed weights, for inference.")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", help="Threads of each runtime, for the latency.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
) -> None:
    """Writes a trained network as packed safetensors, ONNX, OpenVINO or a Hub folder, and measures what it costs."""
    _check_numbers(target or [], report, image_size, threads)
    from rolewise import pretrained

    file = network_file(source, role)
    _check_targets(target or [], file)
    config = checked_run(file, role, network)
    about = pretrained.describe(file)
    model = open_network(file, about, config, network)
    info = info_for(file, about, role, config)
    steps = info.preprocessing
    size = (image_size, image_size) if image_size else (32, 32) if steps is None else steps.size
    with _warnings_to_stderr():
        for path in target or []:
            print(_write(model, path, size=size, opset=opset, packed=packed, extra=about["extra"], info=info))
        if report:
            found = pretrained.cost_report(model, image_size=size, threads=threads)
            print(json.dumps(found) if as_json else pretrained.format_report(found))
    if info.preprocessing is None and target:
        print(f"{file} does not say how images are prepared, so the export does not either.", file=sys.stderr)


def _check_numbers(targets: list[Path], report: bool, image_size: int | None, threads: int) -> None:
    """Checks what can be checked before torch is imported.

    Raises:
        InputError: nothing to do, or a number out of range.
    """
    if not targets and not report:
        raise InputError("Give a file or folder to write, or `--report`.")
    if image_size is not None and not 1 <= image_size <= 4096:
        raise InputError(f"`--image-size` must be 1 to 4096, got {image_size}.")
    if threads < 1:
        raise InputError(f"`--threads` must be at least 1, got {threads}.")


@contextmanager
def _warnings_to_stderr() -> Iterator[None]:
    """Prints the warnings of what runs within, one line each, once it has succeeded."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for one in said:
        if issubclass(one.category, UserWarning):
            say("warning", one.message, DONE)


def _write(
    model: Any, path: Path, *, size: tuple[int, int], opset: int | None, packed: bool, **about: Any
) -> Path:
    """One target, by its suffix."""
    from rolewise import pretrained

    if not path.suffix:
        return pretrained.save_pretrained(model, path, packed=packed, **about)
    written = pretrained.export(model, path, image_size=size, opset=opset, **about)
    if written.suffix == ".xml":
        pretrained.openvino_network(written)  # warns of layers that are not executed in 8-bit integers
    return written


def _check_targets(targets: list[Path], file: Path) -> None:
    """Refuses to write over the source, before anything is written.

    Raises:
        InputError: a target is the source, or the run that it lies in.
    """
    from rolewise.cli.network_files import is_run
    from rolewise.runs import check_output

    same = {file.resolve(), file.with_suffix(".json").resolve(), file.resolve().with_suffix("")}
    for path in targets:
        if path.resolve() in same:
            raise InputError(f"{path} is the source itself. Choose another name.")
        if path.suffix:
            if not path.parent.is_dir():
                raise InputError(f"There is no folder {path.parent}. Make it first.")
        elif is_run(path):
            raise InputError(f"{path} is a run directory. Choose another folder.")
        else:
            check_output(path)
