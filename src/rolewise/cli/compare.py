"""`rolewise compare`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolewise.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from rolewise.experiments.compare import Arm, Compared


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more run directories; seeds of one arm separated by commas: A0,A1 B0,B1. "
            "RUN:NAME is another network of a run: RUN RUN:student-kd RUN:student-averaged."
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option("--key", help="Network to compare, such as student, student-kd or student-averaged."),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the table to this file.")] = None,
) -> None:
    """Compares tested runs with the first one: paired over seeds, and by McNemar's test on the same test images."""
    from rich.console import Console

    from rolewise.experiments.compare import compare as compare_runs
    from rolewise.runs import check_output

    if csv is not None:
        check_output(csv)
    first, others = compare_runs(runs, key)
    if csv is not None:
        _write(csv, first, others)
    # A pipe has no width of its own; a table that is cut is useless.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(_table(first, others))
    if any(other.noise == "images" for other in others):
        console.print("One seed says nothing about others: give several of each run, as A0,A1,A2 B0,B1,B2.")
    for other in others:
        if other.missing:
            console.print(f"{other.arm.name}: no McNemar test: {other.missing}")
    if hint := _averaged_too([first, *(other.arm for other in others)]):
        console.print(hint)


def _averaged_too(arms: "Sequence[Arm]") -> str | None:
    """What to say where last weights are compared and averaged ones could be; None where there are none."""
    from rolewise.runs import layout

    runs = [run for arm in arms for run in arm.runs]
    compared = {(run.path, run.key) for run in runs}
    found = [
        (arm, run, key)
        for arm in arms
        for run in arm.runs
        if run.averaged_too and (run.path, key := layout.averaged_key(run.key)) not in compared
    ]
    if not found:
        return None
    names = ", ".join(dict.fromkeys(arm.name for arm, _, _ in found))
    keys = list(dict.fromkeys(key for _, _, key in found))
    ways = [f"RUN:{key}" for key in keys]
    if len(keys) == 1 and len(found) == len(runs):
        ways.append(f"with `--key {keys[0]}`")
    return (
        f"These are the last weights; averaged weights of {names} were tested too. Compare those as "
        f"{' or '.join(ways)}."
    )


def _write(path: Path, first: "Arm", others: "list[Compared]") -> None:
    import csv

    from rolewise.errors import first_line
    from rolewise.experiments.compare import lines

    found = lines(first, others)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {first_line(error)}.") from None


def _table(first: "Arm", others: "list[Compared]") -> "Table":
    from rich.table import Table

    table = Table(
        title=f"Test accuracy in percent, {first.runs[0].n:,} images; differences are to {first.name}"
    )
    for column in (
        "run",
        "n",
        "accuracy",
        "95 % interval",
        "difference",
        "P(better)",
        "McNemar p",
        "difference is",
        "of the",
    ):
        table.add_column(column)
    table.add_row(first.name, str(len(first.runs)), *_accuracy(first), "-", "-", "-", "-", "-")
    for one in others:
        difference = one.difference
        table.add_row(
            one.arm.name,
            str(len(one.arm.runs)),
            *_accuracy(one.arm),
            "-" if difference is None else _signed(difference.mean, difference.low, difference.high),
            "-" if difference is None or difference.n < 2 else f"{difference.improvement:.2f}",
            ", ".join(f"{test.p_value:.2g}" for test in one.tests.values()) or "-",
            one.verdict,
            one.noise or "-",
        )
    return table


def _accuracy(arm: "Arm") -> tuple[str, str]:
    """Mean, and the interval over seeds, or of the test images where there is one seed."""
    low, high, source = arm.interval
    return f"{100 * arm.summary.mean:.2f}", f"{100 * low:.2f} to {100 * high:.2f} ({source})"


def _signed(mean: float, low: float | None, high: float | None) -> str:
    text = f"{100 * mean:+.2f}"
    return text if low is None or high is None else f"{text} [{100 * low:+.2f}, {100 * high:+.2f}]"
