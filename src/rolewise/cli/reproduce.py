"""`rolewise reproduce`: tables, figure and study of the paper as runs that share what they can."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rolewise.cli import common
from rolewise.errors import InputError, RunError, unknown

if TYPE_CHECKING:
    from rolewise.experiments.runner import Summary
    from rolewise.experiments.setups import Cell
    from rolewise.experiments.site import Site


def reproduce(
    target: Annotated[str, typer.Argument(help="table1 to table4, figure3, study or all.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the experiment; it resumes there.")] = Path(
        "reproduced"
    ),
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Cells, such as cifar100/resnet18/w4a4; repeatable.")
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option("--arms", help="Further schedules for every cell, such as none,random,shuffled."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds: 0, 1, ...")] = 1,
    recipe: Annotated[str, typer.Option("--recipe", help="Numbers of the trainings.")] = "paper",
    scale: Annotated[float, typer.Option("--scale", help="Factor of all epochs, above 0, at most 1.")] = 1.0,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Tiny settings: shows that every cell runs.")
    ] = False,
    release: Annotated[
        str | None,
        typer.Option("--follow-release", help="Where the released code differs, follow it: lambda,decay,..."),
    ] = None,
    set_: common.Assignments = None,
    data_root: common.DataRoot = None,
    pba_schedule: Annotated[
        Path | None, typer.Option("--pba-schedule", help="File of PBA's published schedule, for its arm.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Pieces of work at once.")] = 1,
    engine: Annotated[str, typer.Option("--engine", help="local or ray.")] = "local",
    gpus_per_run: Annotated[
        float, typer.Option("--gpus-per-run", min=0, help="GPUs of each piece of work (Ray).")
    ] = 0.0,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="Address of a running Ray cluster.")
    ] = None,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Leave the checkpoints of complete work.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and what it takes.")] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the report of what is there, and do no work.")
    ] = False,
    quiet: common.Quiet = False,
) -> None:
    """Regenerates tables and figure of the paper, or the study, in one directory.

    It may be stopped and started again, and run by several processes and machines at once.
    """
    from rolewise.cli.display import make_progress
    from rolewise.config import flat, load_tree
    from rolewise.experiments.plan import plan
    from rolewise.experiments.recipes import Options
    from rolewise.experiments.runner import Manner
    from rolewise.experiments.runner import reproduce as work
    from rolewise.experiments.site import Site

    _check_engine(engine, gpus_per_run)
    options = Options(
        recipe,
        scale,
        smoke,
        _words(release),
        flat(load_tree({}, set_ or (), {})),
        None if data_root is None else str(data_root),
        None if pba_schedule is None else str(pba_schedule),
    )
    request = {"target": target, "only": list(only or ()), "arms": list(_words(arms)), "seeds": seeds}
    asked = _cells(request)
    todo = plan(asked, range(seeds))
    for one in todo:
        one.config(options)  # settings that cannot be are refused here, before anything is written
    if dry_run:
        from rolewise.experiments.estimate import estimate

        print(estimate(asked, todo, range(seeds), options))
        return
    site = Site(out, options)
    site.add_request(request)
    if report_only:
        _write(site)
        return
    progress, manner = make_progress(quiet=quiet), Manner(workers, keep_checkpoints)
    try:
        if engine == "ray":
            from rolewise.experiments.ray_tasks import reproduce_on_ray

            summary = reproduce_on_ray(
                site, todo, manner, gpus_per_run=gpus_per_run, address=ray_address, progress=progress
            )
        else:
            summary = work(site, todo, manner, progress=progress)
    finally:
        progress.finish()
        _write(site)
    _report(summary)


def _cells(request: Mapping[str, Any]) -> "tuple[Cell, ...]":
    """The cells of a request, the further arms included."""
    from rolewise.experiments.plan import select, with_arms

    return with_arms(select([request["target"]], request["only"]), request["arms"])


def _check_engine(engine: str, gpus: float) -> None:
    if engine not in ("local", "ray"):
        raise InputError(unknown("engine", engine, ("local", "ray")))
    if gpus and engine != "ray":
        raise InputError("`--gpus-per-run` places work on a Ray cluster: add `--engine ray`.")


def _write(site: "Site") -> None:
    """The report of everything that was asked for in the directory, complete or not."""
    from rolewise.experiments.plan import plan
    from rolewise.experiments.results import collect
    from rolewise.report import write_experiment
    from rolewise.report.experiment_words import Commands

    asked: dict[Cell, range] = {}
    for request in site.requests():
        for cell in _cells(request):
            asked[cell] = max(asked.get(cell, range(0)), range(request["seeds"]), key=len)
    todo = {one.name: one for cell, seeds in asked.items() for one in plan([cell], seeds)}
    study = all(cell.table == "study" for cell in asked)
    title = "Study: searched schedules under one budget" if study else "The paper's tables, regenerated"
    commands = Commands(
        [(_repeats(one), _command(one, site)) for one in site.requests()],
        [(one.name, site.command(one)) for one in todo.values() if site.done(one)],
    )
    written = write_experiment(collect(site, asked, todo.values()), site.path, title=title, commands=commands)
    print(f"report: {written[0]}")


def _repeats(request: Mapping[str, Any]) -> str:
    return f"{request['target']}, {request['seeds']} seed{'s' if request['seeds'] != 1 else ''}"


def _command(request: Mapping[str, Any], site: "Site") -> str:
    """The command that a request was made with."""
    options = site.options
    words = ["rolewise reproduce", request["target"], *(f"--only '{one}'" for one in request["only"])]
    words += [f"--arms {','.join(request['arms'])}"] if request["arms"] else []
    words += [f"--seeds {request['seeds']}", f"--recipe {options.recipe}"]
    words += ["--smoke"] if options.smoke else [f"--scale {options.scale:g}"] if options.scale != 1 else []
    words += [f"--follow-release {','.join(options.release)}"] if options.release else []
    words += [f"--set {shlex.quote(f'{key}={_value(value)}')}" for key, value in options.changes.items()]
    return " ".join([*words, f"--out {shlex.quote(str(site.path))}"])


def _value(value: Any) -> str:
    """A setting as `--set` reads it."""
    from rolewise.settings import read_value

    return value if isinstance(value, str) and read_value(value) == value else json.dumps(value)


def _report(summary: "Summary") -> None:
    print(f"{len(summary.done)} pieces of work done")
    if summary.failed or summary.blocked:
        lines = [f"{name}: {why}" for name, why in summary.failed.items()]
        lines += [f"{name}: waits for one of these" for name in summary.blocked]
        raise RunError("not everything could be done; the rest is complete:\n" + "\n".join(lines))


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())
