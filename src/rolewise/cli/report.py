"""`rolewise report`."""

from pathlib import Path
from typing import Annotated

import typer


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
) -> None:
    """Writes the report of a run, complete or not, from its directory alone, and prints its path."""
    from rolewise.report import write_markdown, write_report

    print(write_markdown(directory, out) if markdown else write_report(directory, out))
