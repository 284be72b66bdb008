"""`rolewise run`, `search` and `train`: the pipeline, whole or stage by stage, on one run directory."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rolewise._roles import check_role
from rolewise.cli import common, distributed
from rolewise.cli.results_table import show_results

if TYPE_CHECKING:
    from rolewise.config import Config
    from rolewise.stages import Pipeline, Training

Role = Annotated[str, typer.Option("--role", help="teacher or student.")]
Teacher = Annotated[
    str | None,
    typer.Option("--teacher", help="Safetensors file of a trained teacher, instead of stage alpha."),
]


def run(
    out: common.Out = None,
    resume: common.Resume = None,
    preset: common.Preset = None,
    config: common.ConfigFile = None,
    set_: common.Assignments = None,
    seed: common.Seed = None,
    data: common.DataName = None,
    data_root: common.DataRoot = None,
    device: common.Device = None,
    workers: common.Workers = None,
    kd: common.KD = None,
    network: common.Network = None,
    student_network: common.StudentNetwork = None,
    teacher: Teacher = None,
    teacher_weights: common.TeacherWeights = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            "--baselines",
            help="Trainings to compare with, by name with commas (teacher-plain, student-plain, student-scratch, "
            "student-kd, student-a-t), all, or none.",
        ),
    ] = None,
    no_baselines: Annotated[
        bool, typer.Option("--no-baselines", help="The same as --baselines none.")
    ] = False,
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Measure the student's inference here at the end.")
    ] = True,
    dry_run: common.DryRun = False,
    log: common.Log = None,
    quiet: common.Quiet = False,
) -> None:
    """Both stages: search and train the teacher, search and train the low-bit student, and a report.

    Without options: handwritten digits and a small network, in under three minutes.
    """
    options = _options(seed, data, data_root, device, workers, kd) | {
        **_networks(network, student_network, teacher, teacher_weights),
        "baselines": "none" if no_baselines else baselines,
    }
    # Read before torch is imported, so that a mistyped setting is refused at once.
    settings = common.settings(resume=resume, preset=preset, config=config, assignments=set_, options=options)
    if dry_run:
        _estimate(settings, resume)
        return
    from rolewise.cli.display import make_progress

    progress = make_progress(quiet=quiet, logs=log or ())
    distributed.refuse_torchrun("run")
    from rolewise.stages import open_pipeline, run_all

    with open_pipeline(settings, out=out, resume=resume, progress=progress) as pipeline:
        run_all(pipeline)
        show_results(pipeline)
        _write_report(pipeline, speed=speed)


def search(
    role: Role,
    out: common.Out = None,
    resume: common.Resume = None,
    preset: common.Preset = None,
    config: common.ConfigFile = None,
    set_: common.Assignments = None,
    seed: common.Seed = None,
    data: common.DataName = None,
    data_root: common.DataRoot = None,
    device: common.Device = None,
    workers: common.Workers = None,
    kd: common.KD = None,
    network: common.Network = None,
    student_network: common.StudentNetwork = None,
    teacher: Teacher = None,
    teacher_weights: common.TeacherWeights = None,
    population: Annotated[int | None, typer.Option("--population", help="Members, 4 to 64.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Length of the search.")] = None,
    interval: Annotated[int | None, typer.Option("--interval", help="Epochs between two exploits.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", help="pbt, or a control of equal budget; `rolewise list methods` has the names."
        ),
    ] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="local or ray.")] = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="Address of a running Ray cluster.")
    ] = None,
    gpus_per_member: Annotated[
        float | None, typer.Option("--gpus-per-member", help="Share of a GPU for each member (Ray).")
    ] = None,
    dry_run: common.DryRun = False,
    log: common.Log = None,
    quiet: common.Quiet = False,
) -> None:
    """Searches one role's schedule: A_T.json of the teacher, or A_S.json of the student with its teacher."""
    check_role(role)
    options = _options(seed, data, data_root, device, workers, kd) | {
        **_networks(network, student_network, teacher, teacher_weights),
        "search.population": population,
        "search.epochs": epochs,
        "search.interval": interval,
        "search.method": method,
        "search.engine": engine,
        "search.ray_address": ray_address,
        "search.gpus_per_member": gpus_per_member,
    }
    settings = common.settings(resume=resume, preset=preset, config=config, assignments=set_, options=options)
    from rolewise.runs import layout

    stage = layout.search_stage(role)
    if dry_run:
        _estimate(settings, resume, only=stage)
        return
    from rolewise.cli.display import make_progress

    progress = make_progress(quiet=quiet, logs=log or ())
    distributed.refuse_torchrun("search")
    from rolewise.stages import open_pipeline, search_role

    with open_pipeline(settings, out=out, resume=resume, only=stage, progress=progress) as pipeline:
        search_role(pipeline, role)
        print(pipeline.run.file(layout.schedule_file(role)))


def train(
    role: Role,
    out: common.Out = None,
    resume: common.Resume = None,
    preset: common.Preset = None,
    config: common.ConfigFile = None,
    set_: common.Assignments = None,
    seed: common.Seed = None,
    data: common.DataName = None,
    data_root: common.DataRoot = None,
    device: common.Device = None,
    kd: common.KD = None,
    network: common.Network = None,
    student_network: common.StudentNetwork = None,
    teacher: Teacher = None,
    teacher_weights: common.TeacherWeights = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule",
            help="A schedule's file, a name such as trivialaugment or autoaugment, or none; default: the searched one.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--as", help="Adds a row of this name to a run: the same training under another --schedule."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Length of the training.")] = None,
    dry_run: common.DryRun = False,
    log: common.Log = None,
    quiet: common.Quiet = False,
) -> None:
    """Trains the teacher, or the student with its teacher, under a schedule, and tests it once at the end.

    Started by torchrun, several processes share every batch.
    """
    check_role(role)
    options = _options(seed, data, data_root, device, None, kd) | {
        **_networks(network, student_network, teacher, teacher_weights),
        f"{role}.schedule": schedule if name is None else None,
        f"{role}.train.epochs": epochs,
    }
    settings = common.settings(resume=resume, preset=preset, config=config, assignments=set_, options=options)
    from rolewise.runs import layout
    from rolewise.stages import train_role
    from rolewise.stages.trainings import further_training

    stage = layout.train_stage(role)
    if dry_run:
        further = None if name is None else further_training(name, role, schedule)
        _estimate(settings, resume, only=stage, further=further)
        return
    with distributed.open_pipeline(
        settings, out=out, resume=resume, only=stage, quiet=quiet, logs=log or []
    ) as pipeline:
        train_role(pipeline, role, name=name, schedule=schedule)
        if pipeline.leads:
            show_results(pipeline)


def _options(
    seed: int | None,
    data: str | None,
    root: str | None,
    device: str | None,
    workers: int | None,
    kd: str | None,
) -> dict[str, Any]:
    return {
        "seed": seed,
        "data.name": data,
        "data.root": root,
        "machine.device": device,
        "machine.workers": workers,
        "kd.loss": kd,
    }


def _networks(
    network: str | None, student_network: str | None, teacher: str | None, weights: str | None
) -> dict[str, Any]:
    return {
        "teacher.network": network,
        "student.network": student_network,
        "teacher.file": teacher,
        "teacher.weights": weights,
    }


def _estimate(
    settings: "Config | dict[str, Any]",
    resume: Path | None,
    only: str | None = None,
    further: "Training | None" = None,
) -> None:
    """What a run would do, and about how long it would take here, printed as it is measured."""
    from rolewise.runs import RunDirectory
    from rolewise.stages import estimate, inputs
    from rolewise.stages.opening import settings_of

    chosen, done = settings_of(settings, resume), None
    if resume is not None:
        run = RunDirectory.open(resume, read_only=True)
        chosen, done = inputs.placed(run, chosen), run.done
    print("A few steps of each stage are timed on this machine; nothing is written.", file=sys.stderr)
    estimate(chosen, only=only, done=done, report=partial(print, flush=True), further=further)


def _write_report(pipeline: "Pipeline", *, speed: bool) -> None:
    from rolewise.cli.speed import measure_once
    from rolewise.report import write_report

    if speed:
        measure_once(pipeline)
    print(f"report: {write_report(pipeline.run.path)}")
