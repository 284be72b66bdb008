"""The report of a run, from its directory alone: one HTML file, Markdown with pictures, or TensorBoard events."""

import os
from pathlib import Path
from urllib.parse import quote

from rolewise.errors import InputError
from rolewise.report.events import write_events
from rolewise.report.experiment import write_experiment
from rolewise.report.load import load
from rolewise.report.markdown import markdown
from rolewise.report.page import html_page
from rolewise.runs import check_output, layout, write_atomic

__all__ = ["write_events", "write_experiment", "write_markdown", "write_report"]


def write_report(run_dir: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Writes the report of a run, complete or not.

    Args:
        run_dir: the run directory; it is only read, apart from the report itself.
        path: path of the report; `report.html` in the run directory by default.

    Returns:
        The file's path.

    Raises:
        InputError: no run directory, a place that cannot be written, or a file that a run needs.
    """
    run = load(run_dir)
    target = Path(path) if path is not None else run.path / layout.REPORT
    return _write(target, html_page(run))


def write_markdown(run_dir: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Writes the report of a run as Markdown, its pictures as SVG files in a folder beside it.

    Args:
        run_dir: the run directory; it is only read, apart from the report itself.
        path: path of the text, `report.md` in the run directory by default; the pictures go to a folder of the
            same name with `-figures` for its suffix.

    Returns:
        The text's path.

    Raises:
        InputError: no run directory, or a place that cannot be written.
    """
    run = load(run_dir)
    target = Path(path) if path is not None else run.path / "report.md"
    folder = target.with_name(f"{target.stem}-figures")
    check_output(target)
    text, pictures = markdown(run, quote(folder.name))
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot write {folder}: {error.strerror or error}. Name another file with `--out`."
        ) from error
    for name, svg in pictures.items():
        _write(folder / name, svg)
    return _write(target, text)


def _write(target: Path, text: str) -> Path:
    check_output(target)
    try:
        write_atomic(target, text.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(
            f"Cannot write {target}: {error.strerror or error}. Name another file with `--out`."
        ) from error
    return target
