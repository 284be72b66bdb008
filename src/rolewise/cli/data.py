"""`rolewise data`: checks that a data set is present and complete, and fetches it."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolewise.data import names_of_data
from rolewise.errors import InputError, check_path

if TYPE_CHECKING:
    from rolewise.data import Split

app = typer.Typer(help="Check a data set, or fetch one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help=f"Data set: {names_of_data()}.")]
Root = Annotated[
    Path | None,
    typer.Option("--data-root", help="The folder that holds the data set's archive or folders."),
]


@app.command()
def check(
    name: Name,
    data_root: Root = None,
    size: Annotated[int, typer.Option(help="Side in pixels to which images of a folder are brought.")] = 32,
    resize: Annotated[
        int | None,
        typer.Option(help="Side to which images of a folder are scaled before the central part is taken."),
    ] = None,
    channels: Annotated[int, typer.Option(help="Channels of a folder's images: 3 for RGB, 1 for gray.")] = 3,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out files of a folder that are no readable image.")
    ] = False,
    store: Annotated[
        str,
        typer.Option(
            help="Where images of a folder are kept: auto, always (a mapped file), never, or a folder."
        ),
    ] = "auto",
) -> None:
    """Reads and verifies a data set, training and test part, and says what is in it."""
    import warnings

    from rolewise.data import load_data
    from rolewise.data.folder import left_out

    with warnings.catch_warnings():
        # Files left out are listed below, all of them.
        warnings.simplefilter("ignore", UserWarning)
        data = load_data(
            name, data_root, size=size, resize=resize, channels=channels, skip_bad=skip_bad, store=store
        )
        print(f"{data.name}: {data.source}")
        print(_line("train", data.train))
        print(_line("test", data.test))
    print("mean  " + ", ".join(f"{value:.8f}" for value in data.train.mean))
    print("std   " + ", ".join(f"{value:.8f}" for value in data.train.std))
    print(f"fingerprint {data.fingerprint()}")
    _print_classes(data.train, data.test)
    for item in data.skipped:
        print(f"left out: {item}")
    print("all files are readable" if not data.skipped else left_out(len(data.skipped)))


def _print_classes(train: "Split", test: "Split") -> None:
    """How many images each class has, where they differ by more than half."""
    counts = train.counts()
    if max(counts) <= 1.5 * min(counts):
        return
    print("classes (train, test):")
    for name, of_train, of_test in zip(train.classes, counts, test.counts(), strict=True):
        print(f"  {name}: {of_train:,}, {of_test:,}")


def _line(part: str, split: "Split") -> str:
    counts = split.labels.bincount(minlength=split.num_classes)
    low, high = int(counts.min()), int(counts.max())
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    height, width = split.image_size
    form = f"{height} x {width}" + (" in gray" if split.channels == 1 else "")
    return f"{part:5} {len(split):,} images of {form}, {split.num_classes} classes of {each}"


@app.command()
def fetch(
    name: Name,
    data_root: Root = None,
    url: Annotated[
        str | None, typer.Option(help="Get the archive from here; its checksum must be the published one.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Downloads CIFAR-10 or CIFAR-100, or resumes a download that broke off."""
    from rolewise.data.fetch import fetch as download

    if name == "digits":
        print("digits is a part of the package: nothing to fetch")
        return
    if data_root is None:
        raise InputError("`--data-root` is missing: give the folder that shall hold the archive.")
    show = _Show(quiet)
    path = download(name, check_path("--data-root", data_root), url=url, report=show.progress, note=show.note)
    show.end()
    print(path)


class _Show:
    """Progress on stderr: one changing line on a terminal, a line for each tenth elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.last: tuple[float, int] = (0.0, -1)  # time and tenth of what was shown
        self.open = False

    def progress(self, done: int, total: int | None) -> None:
        now, tenth = time.monotonic(), 10 * done // total if total else done // (16 * 2**20)
        due = now - self.last[0] > 0.2 or done == total if self.terminal else tenth > self.last[1]
        if self.quiet or not due:
            return
        self.last = (now, tenth)
        of = f" of {total / 2**20:.1f} MiB ({100 * done // total} %)" if total else " MiB"
        print(
            f"\r{done / 2**20:.1f}{of}" if self.terminal else f"{done / 2**20:.1f}{of}",
            end="",
            file=sys.stderr,
        )
        print("" if self.terminal else "\n", end="", file=sys.stderr, flush=True)
        self.open = self.terminal

    def note(self, text: str) -> None:
        self.end()
        print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Ends the changing line, if one is open."""
        if self.open:
            print(file=sys.stderr, flush=True)
        self.open = False
