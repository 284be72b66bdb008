"""What the commands share: their common options, and the run they work on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rolewise.data import names_of_data
from rolewise.errors import InputError, Interrupted

if TYPE_CHECKING:
    from rolewise.config import Config
    from rolewise.runs import RunDirectory
    from rolewise.stages import Pipeline

Out = Annotated[
    Path | None, typer.Option("--out", help="New run directory (default: the next free one in runs/).")
]
Resume = Annotated[Path | None, typer.Option("--resume", help="Run directory to go on in.")]
Preset = Annotated[
    str | None, typer.Option("--preset", help="Named settings, such as paper-cifar100-resnet18-w4a4.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML or TOML file with settings.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, such as student.weight_bits=2; repeatable.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of every random stream.")]
DataName = Annotated[str | None, typer.Option("--data", help=f"Data set: {names_of_data()}.")]
DataRoot = Annotated[str | None, typer.Option("--data-root", help="Folder that holds the data set.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or auto.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes of a search on a CPU (default: the cores).")
]
KD = Annotated[str | None, typer.Option("--kd", help="Distillation loss: a name, FILE.py:Class, or none.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; results and errors alone.")]

# What a resumed run may change: it does not move results.
_FREE = {
    "machine.workers",
    "machine.checkpoint_seconds",
    "search.engine",
    "search.ray_address",
    "search.gpus_per_member",
}
# Sections that the teacher's stage never reads.
_STUDENT_ONLY = ("student.", "kd.", "baselines")


@contextmanager
def open_run(
    *,
    out: Path | None,
    resume: Path | None,
    preset: str | None,
    config: Path | None,
    assignments: list[str] | None,
    options: Mapping[str, Any],
    quiet: bool,
) -> Iterator["Pipeline"]:
    """The pipeline on a new run directory, or on one that is resumed; a signal stops it within one batch.

    Raises:
        InputError: settings that cannot be, a directory that is taken, changes that a resumed run does not allow.
        Interrupted: a signal came; what is saved goes on with `--resume`.
    """
    from rolewise.cli.display import make_progress
    from rolewise.config import load_config
    from rolewise.runs import RunDirectory, StopFlag
    from rolewise.stages import Pipeline

    if out is not None and resume is not None:
        raise InputError("`--out` makes a new run and `--resume` goes on in one: give one of them.")
    if resume is not None:
        run = RunDirectory.open(resume)
    else:
        settings = load_config(preset=preset, file=config, assignments=assignments or (), options=options)
        check(settings)
        run = RunDirectory.create(out or _free_directory(settings.data.name), resolve(settings).model_dump())
    progress = make_progress(quiet=quiet)
    run.note = progress.note
    with run, StopFlag() as flag:
        if resume is not None:
            settings = _resumed(run, preset, config, assignments, options)
            for change in run.changes():
                progress.note(f"since this run was started: {change}")
        else:
            settings = resolve(settings)
        progress.note(f"run directory {run.path}, seed {settings.seed}")
        try:
            pipeline = Pipeline(settings, run, progress=progress, should_stop=flag)
            pipeline.note_room()
            yield pipeline
        except Interrupted as error:
            raise Interrupted(f"{error}. Go on with: rolewise run --resume {run.path}") from error
        finally:
            progress.finish()


def check(settings: "Config") -> None:
    """Checks every name and number that can be checked before any work, the data included.

    Raises:
        InputError: the first thing that cannot be.
    """
    from rolewise import networks
    from rolewise.config import cores
    from rolewise.errors import unknown
    from rolewise.kd import load_loss

    for name in (settings.teacher.network, settings.student.network):
        if name is not None and name not in networks.NETWORKS:
            raise InputError(unknown("network", name, networks.NETWORKS))
    if settings.kd.loss != "none":
        load_loss(settings.kd.loss, variant=settings.kd.variant, **settings.kd.arguments)
    if settings.search.interval > settings.search.epochs:
        raise InputError(
            f"`search.interval` is {settings.search.interval}, but the search has {settings.search.epochs} epochs: "
            "choose an interval of at most that."
        )
    for file in (settings.teacher.file, settings.teacher.schedule, settings.student.schedule):
        if file not in (None, "none") and not Path(str(file)).is_file():
            raise InputError(f"There is no file {file}.")
    if settings.machine.workers is not None and settings.machine.workers > 8 * cores():
        raise InputError(f"`workers` is {settings.machine.workers}, but there are {cores()} cores.")
    _check_data(settings)


def _check_data(settings: "Config") -> None:
    from rolewise.data import load_data

    one = settings.data
    data = load_data(one.name, one.root, size=one.size, skip_bad=one.skip_bad)
    searched, held_out = data.reduced(one.search_train, one.search_validation)
    del held_out
    for role, images in (("teacher", len(data.train)), ("student", len(data.train))):
        batch = settings.role(role).train.batch_size
        if batch > images:
            raise InputError(
                f"`{role}.train.batch_size` is {batch}, but {one.name} has {images} training images."
            )
        batch = settings.search.batch_size or batch
        if batch > len(searched):
            raise InputError(
                f"A search's batch has {batch} images, but its training split has {len(searched)}: "
                "lower `search.batch_size` or raise `data.search_train`."
            )


def resolve(settings: "Config") -> "Config":
    """With the machine's choices written down, so that a resume computes the same way."""
    from rolewise.config import cores
    from rolewise.trainer import TrainSettings

    machine = settings.machine
    chosen = TrainSettings(
        1, device=machine.device, precision=machine.precision, channels_last=machine.channels_last
    ).resolved()
    update = {
        "device": chosen.device,
        "precision": chosen.precision,
        "channels_last": chosen.channels_last,
        "threads": machine.threads or cores(),
    }
    return settings.model_copy(update={"machine": machine.model_copy(update=update)})


def _resumed(
    run: "RunDirectory",
    preset: str | None,
    config: Path | None,
    assignments: list[str] | None,
    options: Mapping[str, Any],
) -> "Config":
    """The run's own settings, with the changes that its progress still allows."""
    from rolewise.config import load_tree, parse_config

    if preset is not None or config is not None:
        raise InputError("A resumed run has its settings: `--preset` and `--config` go with `--out`.")
    before = _flat(run.config)
    settings = parse_config(load_tree(run.config, assignments or (), options))
    after = _flat(settings.model_dump())
    student_began = run.file("checkpoints/search-student").exists() or run.done("search-student")
    student_began = (
        student_began or run.file("checkpoints/train-student").exists() or run.done("train-student")
    )
    for key in sorted(before.keys() | after.keys()):
        late = key.startswith(_STUDENT_ONLY) and not student_began
        if before.get(key) != after.get(key) and key not in _FREE and not late:
            raise InputError(
                f"`{key}` is {before.get(key)!r} in {run.path} and cannot become {after.get(key)!r}: results "
                "of it are there already. Start another run with `--out`."
            )
    if before != after:
        check(settings)
        run.update_config(settings.model_dump())
    return settings


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "arguments":
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _free_directory(name: str) -> Path:
    number = 1
    while (path := Path("runs") / f"{name}-{number:03d}").exists():
        number += 1
    return path
