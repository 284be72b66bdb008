"""What the commands share: their options, and the settings that these make."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rolewise.data import names_of_data
from rolewise.errors import InputError

if TYPE_CHECKING:
    from rolewise.config import Config

Out = Annotated[
    Path | None, typer.Option("--out", help="New run directory (default: the next free one in runs/).")
]
Resume = Annotated[Path | None, typer.Option("--resume", help="Resume the run in this directory.")]
Preset = Annotated[
    str | None, typer.Option("--preset", help="Named settings, such as paper-cifar100-resnet18-w4a4.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML or TOML file with settings.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, such as student.weight_bits=2; repeatable.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Random seed.")]
DataName = Annotated[str | None, typer.Option("--data", help=f"Data set: {names_of_data()}.")]
DataRoot = Annotated[str | None, typer.Option("--data-root", help="Folder that holds the data set.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or auto.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes of a search on a CPU (default: the cores).")
]
KD = Annotated[str | None, typer.Option("--kd", help="Distillation loss: a name, FILE.py:Class, or none.")]
Network = Annotated[
    str | None,
    typer.Option(
        "--network", help="Teacher's network, and the student's by default: a name, or FILE.py:function."
    ),
]
StudentNetwork = Annotated[
    str | None,
    typer.Option("--student-network", help="Student's network, if another: a name, or FILE.py:function."),
]
TeacherWeights = Annotated[
    str | None,
    typer.Option(
        "--teacher-weights",
        help="Trained weights of --network (.pth, .safetensors), instead of stage alpha.",
    ),
]
Log = Annotated[
    list[str] | None,
    typer.Option("--log", help="Live log in the run directory: csv or tensorboard; repeatable."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done and how long it takes; write nothing.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only results and errors.")]


def settings(
    *,
    resume: Path | None,
    preset: str | None,
    config: Path | None,
    assignments: list[str] | None,
    options: Mapping[str, Any],
) -> "Config | dict[str, Any]":
    """The settings of a new run as the command line gives them, or the changes to those of a resumed one.

    Raises:
        InputError: settings that cannot be; a preset or a file for a run that has its settings.
    """
    from rolewise.config import load_config, read_changes

    if resume is None:
        return load_config(preset=preset, file=config, assignments=assignments or (), options=options)
    if preset is not None or config is not None:
        raise InputError("A resumed run has its settings: `--preset` and `--config` go with `--out`.")
    return read_changes(assignments or (), options)
