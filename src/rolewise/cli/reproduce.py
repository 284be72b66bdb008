"""`rolewise reproduce`: tables, figure and study of the paper as runs that share what they can."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolewise.cli import common
from rolewise.errors import RunError

if TYPE_CHECKING:
    from rolewise.experiments.runner import Summary


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
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Leave the checkpoints of complete work.")
    ] = False,
    quiet: common.Quiet = False,
) -> None:
    """Regenerates tables and figure of the paper, or the study, in one directory.

    It may be stopped and started again, and run by several processes and machines at once.
    """
    from rolewise.cli.display import make_progress
    from rolewise.config import load_tree
    from rolewise.experiments.plan import plan, select, with_arms
    from rolewise.experiments.recipes import Options
    from rolewise.experiments.runner import Manner
    from rolewise.experiments.runner import reproduce as work

    changes = load_tree({}, set_ or (), {})
    options = Options(
        recipe,
        scale,
        smoke,
        _words(release),
        _flat(changes),
        None if data_root is None else str(data_root),
        None if pba_schedule is None else str(pba_schedule),
    )
    cells = with_arms(select([target], only or ()), _words(arms))
    todo = plan(cells, range(seeds))
    progress = make_progress(quiet=quiet)
    summary = work(out, options, todo, Manner(workers, keep_checkpoints), progress=progress)
    _report(summary)


def _report(summary: "Summary") -> None:
    print(f"{len(summary.done)} pieces of work done")
    if summary.failed or summary.blocked:
        lines = [f"{name}: {why}" for name, why in summary.failed.items()]
        lines += [f"{name}: waits for one of these" for name in summary.blocked]
        raise RunError("not everything could be done; the rest is complete:\n" + "\n".join(lines))


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
