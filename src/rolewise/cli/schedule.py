"""`rolewise schedule`: look at augmentation schedules, compare, convert and preview them. Epochs count from 0."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolewise.data import names_of_data
from rolewise.errors import InputError

if TYPE_CHECKING:
    from rolewise.augment import Schedule

app = typer.Typer(
    help="Look at augmentation schedules, compare, convert and preview them.", no_args_is_help=True
)

File = Annotated[Path, typer.Argument(help="Our JSON, or a log of PBA, of its descendants or of Ray.")]
Epochs = Annotated[
    int | None, typer.Option("--epochs", help="Length of the search, where the file does not tell it.")
]
Ops = Annotated[
    str | None,
    typer.Option("--ops", help="Op names of bare vectors in their order, with commas (default: published)."),
]
Trial = Annotated[
    str | None, typer.Option("--trial", help="Whose schedule to read from a log of all trials.")
]


def _load(file: Path, epochs: int | None, ops: str | None = None, trial: str | None = None) -> "Schedule":
    from rolewise.augment import Schedule

    names = None if ops is None else [name.strip() for name in ops.split(",")]
    return Schedule.load(file, epochs, ops=names, trial=trial)


@app.command()
def show(
    file: File,
    epochs: Epochs = None,
    ops: Ops = None,
    trial: Trial = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw probabilities and magnitudes, to .svg or .png.")
    ] = None,
) -> None:
    """Print a schedule: where it comes from, and per segment which ops fire how often and how strongly."""
    from rolewise.augment import describe

    schedule = _load(file, epochs, ops, trial)
    print(describe.summary(schedule, file.name))
    for line in describe.origin(schedule):
        print(line)
    print(describe.table(schedule))
    if plot is not None:
        _draw([(file.stem, schedule)], plot)


@app.command("plot")
def plot_schedules(
    files: Annotated[list[Path], typer.Argument(help="One or more schedules, drawn side by side.")],
    out: Annotated[Path, typer.Option("--out", help="Picture to write, .svg or .png.")],
    epochs: Epochs = None,
    ops: Ops = None,
    trial: Trial = None,
) -> None:
    """Draw schedules as in figure 3 of the paper: probabilities above magnitudes."""
    _draw([(file.stem, _load(file, epochs, ops, trial)) for file in files], out)


def _draw(items: list[tuple[str, "Schedule"]], path: Path) -> None:
    from rolewise.report.plots import schedule_figure

    titled = [(schedule.role or title, schedule) for title, schedule in items]
    schedule_figure(titled, path)
    print(f"wrote {path}")


@app.command()
def diff(
    one: File,
    two: Annotated[Path, typer.Argument(help="The schedule to compare with.")],
    epochs: Epochs = None,
    ops: Ops = None,
) -> None:
    """Print where two schedules differ: op, probability in tenths/magnitude, before -> after."""
    from rolewise.augment import describe

    lines = list(describe.difference(_load(one, epochs, ops), _load(two, epochs, ops)))
    print("\n".join(lines) if lines else "the same policy in every epoch")


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
        str | None, typer.Option("--role", help="Whose schedule it is: teacher or student.")
    ] = None,
) -> None:
    """Write a schedule in another form, and another length if asked."""
    from rolewise.augment import Schedule

    schedule = _load(file, epochs, ops, trial)
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
    epoch: Annotated[int, typer.Option("--epoch", help="Epoch whose policy is shown, from 0.")] = 0,
    data: Annotated[str, typer.Option("--data", help=f"Data set: {names_of_data()}.")] = "digits",
    data_root: Annotated[
        str | None, typer.Option("--data-root", help="Folder that holds the data set.")
    ] = None,
    images: Annotated[
        int, typer.Option("--images", help="How many images, one row each.", min=1, max=100)
    ] = 8,
    variants: Annotated[
        int, typer.Option("--variants", help="How often each is augmented.", min=1, max=20)
    ] = 6,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the augmentation; the columns count up from it.")
    ] = 0,
    epochs: Epochs = None,
    ops: Ops = None,
    trial: Trial = None,
) -> None:
    """Draw a contact sheet: originals beside augmented images, each with the ops that were applied."""
    import torch

    from rolewise.augment.sheet import contact_sheet
    from rolewise.data import load_data

    policy = _load(file, epochs, ops, trial)[epoch]
    split = load_data(data, data_root).train
    split = split.subset(torch.arange(min(images, len(split))))
    red, green, blue = (round(255 * value) for value in (split.mean * 3)[:3])
    pixels = split.images[:].expand(-1, -1, -1, 3)  # a contact sheet is in color
    sheet = contact_sheet(
        policy,
        pixels.numpy(),
        seed=seed,
        epoch=epoch,
        ids=split.ids.tolist(),
        fill=(red, green, blue),
        variants=variants,
        title=f"{file.name}, epoch {epoch}, on {data}, seeds {seed} to {seed + variants - 1}",
    )
    try:
        sheet.save(out)
    except (OSError, ValueError) as error:
        raise InputError(f"The picture cannot be written to {out}: {error}.") from error
    print(f"wrote {out}")
