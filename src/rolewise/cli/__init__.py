"""The `rolewise` command. Results go to stdout, progress and errors to stderr.

Exit status: 0 done, 1 failed, 2 bad input, 75 interrupted and resumable. No module of this package imports torch before
a command runs, so that `--help` answers at once.
"""

from collections.abc import Sequence
from typing import Annotated

import typer

from rolewise._version import __version__
from rolewise.cli import (
    compare,
    config,
    data,
    evaluate,
    export,
    hub,
    import_weights,
    pipeline,
    predict,
    report,
    reproduce,
    schedule,
)
from rolewise.cli.outcome import outcome

app = typer.Typer(
    name="rolewise",
    help="Role-wise data augmentation for knowledge distillation into low-bit networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"rolewise {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Role-wise data augmentation for knowledge distillation into low-bit networks."""


app.command("run")(pipeline.run)
app.command("search")(pipeline.search)
app.command("train")(pipeline.train)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("import-weights")(import_weights.import_weights)
app.command("push")(hub.push)
app.command("pull")(hub.pull)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("reproduce")(reproduce.reproduce)
app.command("doctor")(evaluate.doctor)
app.command("list")(config.list_)
app.add_typer(config.app, name="config")
app.add_typer(schedule.app, name="schedule")
app.add_typer(data.app, name="data")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    given = None if arguments is None else list(arguments)
    return outcome(lambda: app(args=given, prog_name="rolewise"))
