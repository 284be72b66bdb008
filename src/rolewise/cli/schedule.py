"""`rolewise schedule`: look at augmentation schedules, compare, convert and preview them. Epochs count from 0."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolewise._roles import ROLES
from rolewise.data import names_of_data
from rolewise.errors import InputError

if TYPE_CHECKING:
    from rolewise.augment import Schedule

app = typer.Typer(
    help="Look at augmentation schedules, compare, convert and preview them.", no_args_is_help=True
)

_WHAT = (
    "our JSON, a log of PBA, of its descendants or of Ray; a run directory; or a name such as autoaugment or "
    "trivialaugment"
)
File = Annotated[str, typer.Argument(help=f"A schedule: {_WHAT}.")]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs", help="Length of the search where the file does not state it; of a named schedule."
    ),
]
Ops = Annotated[
    str | None,
    typer.Option("--ops", help="Op names of bare vectors in their order, with commas (default: published)."),
]
Trial = Annotated[
    str | None, typer.Option("--trial", help="Whose schedule to read from a log of all trials.")
]
Role = Annotated[
    str | None, typer.Option("--role", help="Only this role of a run directory: teacher or student.")
]


def _schedules(
    name: str,
    epochs: int | None,
    ops: str | None = None,
    trial: str | None = None,
    role: str | None = None,
    *,
    several: bool = False,
) -> list[tuple[str, "Schedule"]]:
    """(title, schedule) of a file or a name, or of the schedules that a run directory holds.

    Among several files, `epochs` is for those that do not state their length.
    """
    from rolewise.augment import NAMED, Schedule
    from rolewise.runs import layout

    if role is not None and role not in ROLES:
        raise InputError(f'`--role` must be "teacher" or "student", got "{role}".')
    if name in NAMED:
        return [(name, Schedule.named(name, epochs or 1))]
    path = Path(name)
    if path.is_dir():
        files = [path / layout.schedule_file(key) for key in ROLES if role in (None, key)]
        found = [file for file in files if file.exists()]
        if not found:
            wanted = " nor ".join(file.name for file in files)
            raise InputError(
                f"{path} holds no {wanted}: it is no run directory, or nothing was searched in it yet."
            )
        return [(f"{path.resolve().name}/{file.stem}", Schedule.load(file)) for file in found]
    names = None if ops is None else [one.strip() for one in ops.split(",")]
    if several and epochs is not None:
        with suppress(InputError):
            return [(path.stem, Schedule.load(path, ops=names, trial=trial))]
    return [(path.stem, Schedule.load(path, epochs, ops=names, trial=trial))]


def _one(name: str, found: list[tuple[str, "Schedule"]]) -> "Schedule":
    """The one schedule that is meant, of those that `name` has."""
    if len(found) > 1:
        raise InputError(f"{name} holds the schedules of both roles: choose one with `--role`.")
    return found[0][1]


@app.command()
def show(
    file: File,
    epochs: Epochs = None,
    ops: Ops = None,
    trial: Trial = None,
    role: Role = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Also draw probabilities and magnitudes, to .svg, .png or .pdf."),
    ] = None,
) -> None:
    """Prints a schedule: where it comes from, and per segment which ops fire how often and how strongly."""
    from rolewise.augment import describe

    items = _schedules(file, epochs, ops, trial, role)
    for title, schedule in items:
        print(describe.summary(schedule, title if len(items) > 1 else Path(file).name))
        for line in describe.origin(schedule):
            print(line)
        print(describe.table(schedule))
        for policy in dict.fromkeys(policy for _, policy in schedule.segments):
            for line in describe.ranges(policy):
                print(line)
    if plot is not None:
        _draw(items, plot)


@app.command("plot")
def plot_schedules(
    files: Annotated[
        list[str],
        typer.Argument(help="One or more schedules or run directories, drawn side by side with common axes."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Picture to write, .svg, .png or .pdf.")],
    epochs: Epochs = None,
    ops: Ops = None,
    trial: Trial = None,
    role: Role = None,
) -> None:
    """Draws schedules as in figure 3 of the paper: probabilities above magnitudes."""
    several = len(files) > 1
    items = [item for file in files for item in _schedules(file, epochs, ops, trial, role, several=several)]
    _draw(items, out)


def _draw(items: list[tuple[str, "Schedule"]], path: Path) -> None:
    from rolewise.report.schedule_plot import schedule_figure
    from rolewise.runs import check_output

    check_output(path)

    roles = [schedule.role for _, schedule in items]
    telling = None not in roles and len(set(roles)) == len(roles)
    schedule_figure([(str(schedule.role) if telling else title, schedule) for title, schedule in items], path)
    print(f"wrote {path}")


@app.command()
def diff(
    one: File,
    two: Annotated[
        str | None,
        typer.Argument(help="What to compare with; leave it out to compare a run's A_T with its A_S."),
    ] = None,
    epochs: Epochs = None,
    ops: Ops = None,
    role: Role = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Also each slot that differs: tenths/magnitude, before -> after.")
    ] = False,
) -> None:
    """Reports how far two schedules are apart, and where; other lengths are compared by the place in the training."""
    from rolewise.augment import NAMED, Schedule, compare

    if two is None:
        found = [schedule for _, schedule in _schedules(one, epochs, ops)]
        if len(found) != 2:
            raise InputError(f"{one} holds one schedule: name another one to compare it with.")
        first, second = found
    else:
        first, second = (
            _one(file, _schedules(file, epochs, ops, role=role, several=True)) for file in (one, two)
        )
        if epochs is None:  # a name alone has no length of its own
            first = Schedule.named(one, len(second)) if one in NAMED else first
            second = Schedule.named(two, len(first)) if two in NAMED else second
    lines = list(compare.difference(first, second))
    if not lines:
        print("the same policy in every epoch")
        return
    print("\n".join([*compare.summary_of_difference(first, second), *(lines if whole else [])]))


@app.command()
def convert(
    file: File,
    out: Annotated[Path, typer.Argument(help="File to write: .txt is PBA's log, anything else our JSON.")],
    epochs: Epochs = None,
    ops: Ops = None,
    trial: Trial = None,
    stretch: Annotated[
        int | None, typer.Option("--stretch", help="Epochs that the result is stretched to.")
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            "--role", help="Whose schedule it is, teacher or student; of a run directory, which one."
        ),
    ] = None,
) -> None:
    """Writes a schedule in another form, and another length if asked."""
    from rolewise.augment import Schedule
    from rolewise.runs import check_output

    check_output(out)
    schedule = _one(file, _schedules(file, epochs, ops, trial, role if Path(file).is_dir() else None))
    if role is not None:
        schedule = Schedule(schedule.segments, role=role, provenance=schedule.provenance)
    if stretch is not None:
        schedule = schedule.stretch(stretch)
    schedule.save(out, form="pba" if out.suffix == ".txt" else "rolewise")
    print(f"wrote {out}: {len(schedule)} epochs in {len(schedule.segments)} segments")


@app.command()
def preview(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Picture to write.")] = Path("preview.png"),
    epoch: Annotated[
        int | None, typer.Option("--epoch", help="Epoch whose policy is shown, from 0 (default: the last).")
    ] = None,
    strip: Annotated[
        int | None,
        typer.Option(
            "--strip", help="So many epochs instead, from the first to the last, a column each.", min=2
        ),
    ] = None,
    data: Annotated[str, typer.Option("--data", help=f"Data set: {names_of_data()}.")] = "digits",
    data_root: Annotated[
        str | None, typer.Option("--data-root", help="Folder that holds the data set.")
    ] = None,
    size: Annotated[
        int, typer.Option("--size", help="Side in pixels to which images of a folder are brought.")
    ] = 32,
    images: Annotated[
        int, typer.Option("--images", help="How many images, one row each.", min=1, max=100)
    ] = 8,
    variants: Annotated[
        int, typer.Option("--variants", help="How often each is augmented.", min=1, max=20)
    ] = 6,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the augmentation; the columns count up from it.")
    ] = 0,
    epochs: Epochs = None,
    ops: Ops = None,
    trial: Trial = None,
    role: Role = None,
) -> None:
    """Draws a contact sheet: originals next to augmented images, each with the ops that were applied."""
    import torch

    from rolewise.augment.contact_sheet import contact_sheet, epoch_strip
    from rolewise.data import load_data
    from rolewise.runs import check_output

    check_output(out)
    schedule = _one(file, _schedules(file, epochs, ops, trial, role))
    if epoch is not None and strip is not None:
        raise InputError("`--epoch` shows one epoch, `--strip` several: leave one of them out.")
    split = load_data(data, data_root, size=size).train
    split = split.subset(torch.arange(min(images, len(split))))
    red, green, blue = (round(255 * value) for value in (split.mean * 3)[:3])
    in_color = split.images[:].expand(-1, -1, -1, 3)
    pixels, ids, fill = in_color.numpy(), split.ids.tolist(), (red, green, blue)
    name = f"{Path(file).name}, "
    if strip is not None:
        last = len(schedule) - 1
        places = list(dict.fromkeys(round(place * last / (strip - 1)) for place in range(strip)))
        title = f"{name}{len(places)} of {last + 1} epochs, on {data}, seed {seed}"
        sheet = epoch_strip(schedule, pixels, seed=seed, epochs=places, ids=ids, fill=fill, title=title)
    else:
        number = len(schedule) - 1 if epoch is None else epoch
        title = f"{name}epoch {number}, on {data}, seeds {seed} to {seed + variants - 1}"
        sheet = contact_sheet(
            schedule[number],
            pixels,
            seed=seed,
            epoch=number,
            ids=ids,
            fill=fill,
            variants=variants,
            title=title,
        )
    try:
        sheet.save(out)
    except (OSError, ValueError) as error:
        raise InputError(f"The picture cannot be written to {out}: {error}.") from error
    print(f"wrote {out}")
