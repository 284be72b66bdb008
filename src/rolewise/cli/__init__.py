"""The `rolewise` command. Results go to stdout, progress and errors to stderr.

Exit status: 0 done, 1 failed, 2 bad input, 75 interrupted and resumable. No module of this package imports torch before
a command runs, so that `--help` answers at once.
"""

import sys
from collections.abc import Sequence

import typer

from rolewise.cli import data, evaluate, export, import_weights, pipeline, predict, report, schedule
from rolewise.errors import InputError, Interrupted, RunError

app = typer.Typer(
    name="rolewise",
    help="Role-wise data augmentation for knowledge distillation into low-bit networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("run")(pipeline.run)
app.command("search")(pipeline.search)
app.command("train")(pipeline.train)
app.command("eval")(evaluate.evaluate)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("import-weights")(import_weights.import_weights)
app.command("report")(report.report)
app.command("doctor")(evaluate.doctor)
app.add_typer(schedule.app, name="schedule")
app.add_typer(data.app, name="data")

RESUMABLE = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="rolewise")
    except SystemExit as end:
        return _status(end)
    except InputError as error:
        return _say("error", error, 2)
    except RunError as error:
        return _say("failed", error, 1)
    except Interrupted as error:
        return _say("interrupted", error, RESUMABLE)
    except KeyboardInterrupt:
        return _say("interrupted", "before anything was saved", RESUMABLE)
    return 0


def _status(end: SystemExit) -> int:
    if end.code is None:
        return 0
    return end.code if isinstance(end.code, int) else 1


def _say(kind: str, message: object, status: int) -> int:
    print(f"rolewise: {kind}: {message}", file=sys.stderr)
    return status
