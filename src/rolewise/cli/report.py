"""`rolewise report`."""

from pathlib import Path
from typing import Annotated

import typer

from rolewise.errors import InputError


def report(
    directory: Annotated[
        Path, typer.Argument(help="Run directory; what is missing in it is said in the report.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write instead of report.html (report.md) in the directory."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Markdown with SVG files beside it, not HTML.")
    ] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option("--tensorboard", help="Folder for TensorBoard events, written instead of a report."),
    ] = None,
    speed: Annotated[
        bool,
        typer.Option(
            "--speed/--no-speed", help="First measure the student's inference here; kept in the directory."
        ),
    ] = False,
) -> None:
    """Writes the report of a run, complete or not, from its directory alone, and prints its path."""
    from rolewise.report import write_events, write_markdown, write_report

    if tensorboard is not None:
        if markdown or out is not None or speed:
            raise InputError(
                "`--tensorboard` writes events and no report: leave `--markdown`, `--out` and `--speed` out."
            )
        print(write_events(directory, tensorboard))
    else:
        if speed:
            from rolewise.cli.speed import measure_speed

            measure_speed(directory)
        print(write_markdown(directory, out) if markdown else write_report(directory, out))
