"""The table of results that a command prints at its end."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from rolewise.stages import Pipeline

_NARROW = 60  # columns, below which the names of a table are broken within words


def show_results(pipeline: "Pipeline") -> None:
    """Prints the results of a run, one training a row, and how far chance may move them."""
    from rich.console import Console
    from rich.table import Table

    from rolewise.report.text import seed_caution

    data = Path(pipeline.config.data.name).name
    title = f"Test accuracy on {data}, last epoch, seed {pipeline.config.seed}, n = 1"
    table = Table(title=title)
    # In a narrow terminal names are broken, and figures stay whole.
    for column, whole in (("network", False), ("bits W/A", False), ("KD", True), ("schedule", False)):
        table.add_column(column, no_wrap=whole, overflow="fold")
    table.add_column("accuracy", justify="right", no_wrap=True)
    rows = pipeline.results()["rows"]
    averaged = any(row.get("accuracy_averaged") is not None for row in rows)
    if averaged:
        table.add_column("averaged weights", justify="right", overflow="fold")
    chosen = any(row.get("best_epoch") is not None for row in rows)
    if chosen:
        table.add_column("best held-out epoch", justify="right", overflow="fold")
    for row in rows:
        shares = [row["accuracy"], *([row.get("accuracy_averaged")] if averaged else [])]
        epoch = row.get("best_epoch")
        best = "-" if epoch is None else f"{epoch}: {_percent(row['accuracy_best_epoch'])}"
        table.add_row(*_cells(row), *map(_percent, shares), *([best] if chosen else []))
    # A pipe has no width of its own; a table that is cut serves nobody.
    console = Console(width=None if sys.stdout.isatty() else 100)
    if console.width < _NARROW:
        _print_lines(console, title, rows)
    else:
        table.min_width = min(len(title), console.width)  # a title is broken at the table's width
        console.print(table)
    console.print(seed_caution(rows), highlight=False)


def _print_lines(console: "Console", title: str, rows: list[dict[str, Any]]) -> None:
    """The same without columns, which would break every name in a terminal as narrow as this."""
    lines = [title]
    for row in rows:
        network, bits, loss, schedule = _cells(row)
        lines.append(f"{_percent(row['accuracy'])}  {network}")
        lines.append(f"  bits {bits}, KD {loss}, schedule {schedule}")
        if row.get("accuracy_averaged") is not None:
            lines.append(f"  averaged weights: {_percent(row['accuracy_averaged'])}")
        if row.get("best_epoch") is not None:
            best = _percent(row["accuracy_best_epoch"])
            lines.append(f"  best held-out epoch, {row['best_epoch']}: {best}")
    console.print("\n".join(lines), markup=False, highlight=False)


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """What a row says of a training: network, bits, loss, schedule."""
    from rolewise.runs.titles import network_title, schedule_title  # which imports torch

    network = network_title(row)
    if row.get("same_as"):
        network += f" (= {row['same_as']})"
    schedule = schedule_title(row) or "-"
    if row["no_operation"]:
        schedule += ", no operation"
    bits = f"{row['weight_bits']}/{row['act_bits']}"
    return network, bits, Path(row["kd"]).name if row["kd"] else "-", schedule
