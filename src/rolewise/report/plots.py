"""What pictures are drawn with, and the schedules' picture. The one file that imports matplotlib.

The bytes of an SVG depend on what is drawn alone: no date, no random names.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Curve
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rolewise.augment import Schedule
from rolewise.errors import InputError
from rolewise.report.series import Series, series
from rolewise.report.theme import Theme
from rolewise.runs import write_atomic

PANEL = (420, 285)  # natural size of a small picture, CSS pixels
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "path.simplify": False,
}
_CODES = {"move": [Curve.MOVETO], "line": [Curve.LINETO], "curve": [Curve.CURVE4] * 3}

Point = tuple[float, float]
Step = tuple[
    str, Sequence[Point]
]  # "move" and "line" with one point, "curve" with two control points and its end


@contextmanager
def drawing(salt: str = "rolewise") -> Iterator[None]:
    """matplotlib as it comes, whatever the user's own settings of it say; also a decorator."""
    with (
        matplotlib.style.context("default", after_reset=True),
        matplotlib.rc_context({**_RC, "svg.hashsalt": salt}),
    ):
        yield


class Sheet:
    """A figure measured in CSS pixels from its top left corner.

    Args:
        width, height: natural size.
        theme: where colours come from; all methods take their names.
    """

    def __init__(self, width: float, height: float, theme: Theme) -> None:
        self.width, self.height, self.theme = width, height, theme
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        self.figure.patch.set(
            alpha=0 if theme.page else 1, facecolor=theme("paper")
        )  # a page has its own paper
        self._tips: list[tuple[str, str]] = []

    def axes(self, left: float, top: float, right: float, bottom: float) -> Any:
        """Axes between these distances from the figure's left, top, left, top edge."""
        box = (
            left / self.width,
            1 - bottom / self.height,
            (right - left) / self.width,
            (bottom - top) / self.height,
        )
        axes = self.figure.add_axes(box)
        axes.set_facecolor("none")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(self.theme("line"))
        axes.tick_params(length=0, labelsize=10.5, labelcolor=self.theme("muted"), pad=5)
        axes.grid(axis="y", color=self.theme("line"), linewidth=0.7)
        axes.set_axisbelow(True)
        return axes

    def text(
        self,
        axes: Any,
        point: Point,
        words: str,
        *,
        color: str = "muted",
        shift: Point = (0, 0),
        **options: Any,
    ) -> None:
        """Words at data coordinates, shifted by pixels to the right and up; never read as mathematics."""
        style = {"fontsize": 10.5, "color": self.theme(color), "parse_math": False, "annotation_clip": False}
        axes.annotate(words, point, shift, textcoords="offset points", **(style | options))

    def heading(self, axes: Any, words: str) -> None:
        """What the vertical axis shows, above its upper end."""
        self.text(axes, (0, 1), words, shift=(-26, 9), xycoords="axes fraction", ha="left", va="bottom")

    def epochs(self, axes: Any) -> None:
        """Epochs along the horizontal axis."""
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("epoch", color=self.theme("muted"), fontsize=10.5, loc="right", labelpad=2)

    def values(self, axes: Any, most: int = 5, *, integer: bool = False) -> None:
        """Plain numbers along the vertical axis."""
        axes.yaxis.set_major_locator(MaxNLocator(most, integer=integer))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

    def bar(self, axes: Any, corner: Point, width: float, height: float, color: str, tip: str) -> None:
        """A rectangle; `color` is one to draw with."""
        bar = Rectangle(corner, width, height, facecolor=color, edgecolor=self.theme("paper"), linewidth=0.4)
        axes.add_patch(bar)
        self.tip(bar, tip)

    def tracks(self, axes: Any, lines: Sequence[Sequence[Point]], color: str, width: float) -> None:
        """Many broad lines of one colour."""
        axes.add_collection(
            LineCollection(lines, colors=self.theme(color), linewidths=width, capstyle="butt"), autolim=False
        )

    def path(
        self, axes: Any, steps: Sequence[Step], color: str, width: float, *, alpha: float = 1, order: int = 3
    ) -> Any:
        """A line through points and curves."""
        points = [point for _, part in steps for point in part]
        codes = [code for kind, _ in steps for code in _CODES[kind]]
        path = PathPatch(Curve(points, codes), facecolor="none", edgecolor=self.theme(color), linewidth=width)
        path.set(alpha=alpha, zorder=order, capstyle="round", joinstyle="round")
        return axes.add_patch(path)

    def dot(self, axes: Any, point: Point, color: str, size: float = 8) -> None:
        """A round mark with a rim in the color of the paper."""
        rim, fill = self.theme("paper"), self.theme(color)
        axes.plot(
            *point, "o", markersize=size, markerfacecolor=fill, markeredgecolor=rim, markeredgewidth=1.2
        )

    def tip(self, artist: Any, words: str) -> None:
        """What is said when one points at `artist`."""
        name = f"tip-{len(self._tips)}"
        artist.set_gid(name)
        self._tips.append((name, words))

    def svg(self, title: str, description: str = "") -> str:
        """The picture as SVG."""
        target = io.StringIO()
        canvas: Any = FigureCanvasSVG(self.figure)
        with drawing(title):  # names within the file differ from those of other pictures on the page
            canvas.print_svg(target, metadata={"Date": None, "Creator": None})
        return self.theme.finish(target.getvalue(), title=title, description=description, tips=self._tips)

    def png(self) -> bytes:
        """The picture as PNG, at twice its natural size."""
        target = io.BytesIO()
        with drawing():
            FigureCanvasAgg(self.figure).print_figure(
                target, dpi=144, format="png", metadata={"Software": None}
            )
        return target.getvalue()


@drawing()
def schedule_figure(items: Sequence[tuple[str, Schedule]], path: str | Path | None = None) -> str:
    """Figure 3 of the paper: per schedule its probabilities over its magnitudes, the schedules side by side.

    Args:
        items: (title, schedule), each a column: the teacher's, then the student's.
        path: also written there, as SVG or, if it ends in .png, as PNG.

    Returns:
        The SVG.

    Raises:
        InputError: nothing to draw, a schedule without probabilities and magnitudes, another suffix.
    """
    if not items:
        raise InputError("`items` must hold at least one (title, schedule), got none.")
    suffix = Path(path).suffix.lower() if path is not None else ".svg"
    if suffix not in (".svg", ".png"):
        raise InputError(f'`path` must end in .svg or .png, got "{path}".')
    (width, height), top = PANEL, 26
    sheet = Sheet(width * len(items), top + 2 * height + 48, Theme(page=False))
    names: list[str] = []
    for column, (title, schedule) in enumerate(items):
        numbers, left = series(schedule), column * width
        axes = sheet.axes(left + 40, top + 32, left + width - 84, top + height - 34)
        sheet.text(
            axes,
            (0.5, 1.12),
            title,
            color="ink",
            xycoords="axes fraction",
            ha="center",
            va="bottom",
            fontsize=13,
        )
        _probability(sheet, axes, numbers)
        axes = sheet.axes(left + 40, top + height + 32, left + width - 84, top + 2 * height - 34)
        _magnitude(sheet, axes, numbers)
        names = sorted({*names, *numbers.ops})
    _legend(sheet, names)
    svg = sheet.svg(
        " and ".join(title for title, _ in items), "Probability and magnitude of each op by epoch."
    )
    if path is not None:
        write_atomic(path, sheet.png() if suffix == ".png" else svg.encode())
    return svg


@drawing()
def probability_panel(title: str, schedule: Schedule, theme: Theme) -> str:
    """Stacked areas of the probabilities, normalised, alone."""
    return _panel(title, series(schedule), theme, _probability)


@drawing()
def magnitude_panel(title: str, schedule: Schedule, theme: Theme) -> str:
    """Stacked bars of the magnitudes, alone."""
    return _panel(title, series(schedule), theme, _magnitude)


def _panel(title: str, numbers: Series, theme: Theme, draw: Callable[[Sheet, Any, Series], None]) -> str:
    width, height = PANEL
    sheet = Sheet(width, height, theme)
    draw(sheet, sheet.axes(40, 32, width - 84, height - 34), numbers)
    first = numbers.first
    active = [name for name, row in zip(numbers.ops, numbers.probability, strict=True) if row.any()]
    words = "no op in use" if first is None else f"from epoch {first + 1} on: {', '.join(active)}"
    return sheet.svg(title, f"{numbers.epochs} epochs, {len(numbers.steps())} policies; {words}.")


def _probability(sheet: Sheet, axes: Any, numbers: Series) -> None:
    steps = numbers.steps()
    edges = np.array([edge for step in steps for edge in step], dtype=float)
    columns = np.repeat([first for first, _ in steps], 2)
    tops = np.cumsum(numbers.probability, axis=0)
    for number, name in enumerate(numbers.ops):
        upper, lower = (
            tops[number, columns],
            (tops[number - 1, columns] if number else np.zeros(len(columns))),
        )
        if (upper > lower).any():
            color = sheet.theme.op(name, number)
            area = axes.fill_between(
                edges, lower, upper, color=color, linewidth=0.4, edgecolor=sheet.theme("paper")
            )
            sheet.tip(area, f"{name}: probability up to {(upper - lower).max() * numbers.largest:.2f}")
    axes.set(xlim=(0, numbers.epochs), ylim=(0, 1))
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    sheet.heading(axes, "probability, largest sum = 1")
    sheet.epochs(axes)
    _label_ends(sheet, axes, numbers.ops, tops[:, -1])
    quiet = numbers.epochs if numbers.first is None else numbers.first
    if quiet >= 0.25 * numbers.epochs:
        sheet.text(axes, (quiet / 2, 0.5), "no\naugmentation", ha="center", va="center", linespacing=1.4)


def _magnitude(sheet: Sheet, axes: Any, numbers: Series) -> None:
    step = numbers.bars[1] - numbers.bars[0] if len(numbers.bars) > 1 else numbers.epochs
    heights = numbers.magnitude[:, list(numbers.bars)]
    tops = np.cumsum(heights, axis=0)
    for number, name in enumerate(numbers.ops):
        for k, epoch in enumerate(numbers.bars):
            if heights[number, k] > 0:
                corner = (epoch + 0.12 * step, tops[number, k] - heights[number, k])
                tip = f"{name}, epoch {epoch}: magnitude {heights[number, k]:g}"
                sheet.bar(axes, corner, 0.76 * step, heights[number, k], sheet.theme.op(name, number), tip)
    axes.set(xlim=(0, numbers.bars[-1] + step), ylim=(0, max(1.0, tops.max(initial=0.0) * 1.03)))
    sheet.heading(axes, "magnitude, sum over ops")
    sheet.values(axes, 4, integer=True)
    sheet.epochs(axes)
    _label_ends(sheet, axes, numbers.ops, tops[:, -1])


def _label_ends(sheet: Sheet, axes: Any, names: Sequence[str], tops: Any) -> None:
    """Names beside the right end of a stack, where a part is high enough to carry one."""
    (_, x), (_, most) = axes.get_xlim(), axes.get_ylim()
    bottoms, last = np.concatenate([[0.0], tops[:-1]]), -most
    for name, bottom, top in zip(names, bottoms, tops, strict=True):
        middle = (bottom + top) / 2
        if top - bottom > 0.015 * most and middle - last > 0.05 * most:
            sheet.text(axes, (x, middle), name, shift=(5, 0), va="center", fontsize=10)
            last = middle


def _legend(sheet: Sheet, names: Sequence[str]) -> None:
    axes = sheet.figure.add_axes((0, 0, 1, 46 / sheet.height))
    axes.set(xlim=(0, sheet.width), ylim=(46, 0))
    axes.axis("off")
    most = max(1, int((sheet.width - 40) // 98))
    columns = -(-len(names) // -(-len(names) // most)) if names else 1
    for number, name in enumerate(names):
        x, y = 40 + (number % columns) * (sheet.width - 60) / columns, 9 + 18 * (number // columns)
        axes.add_patch(Rectangle((x, y - 5), 10, 10, color=sheet.theme.op(name, number)))
        sheet.text(axes, (x, y), name, color="ink", shift=(15, 0), va="center")
