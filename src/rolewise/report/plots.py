"""What pictures are drawn with. The one file that imports matplotlib.

The bytes of an SVG depend on what is drawn alone: no date, no random names.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Curve
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rolewise.errors import InputError
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
# "move" and "line" with one point, "curve" with two control points and its end.
Step = tuple[str, Sequence[Point]]


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
        theme: source of the colors; all methods take their names.
    """

    def __init__(self, width: float, height: float, theme: Theme) -> None:
        self.width, self.height, self.theme = width, height, theme
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        # A page has its own paper.
        self.figure.patch.set(alpha=0 if theme.page else 1, facecolor=theme("paper"))
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

    def swatch(self, axes: Any, corner: Point, side: float, color: str) -> None:
        """A small square of a legend; `color` is one to draw with."""
        axes.add_patch(Rectangle(corner, side, side, color=color))

    def tracks(self, axes: Any, lines: Sequence[Sequence[Point]], color: str, width: float) -> None:
        """Many broad lines of one color."""
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

    def pdf(self) -> bytes:
        """The picture as PDF, of natural size; the bytes hold no date."""
        target = io.BytesIO()
        canvas: Any = FigureCanvasPdf(self.figure)
        with drawing():
            canvas.print_pdf(target, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        return target.getvalue()

    def write(self, path: str | Path, svg: str) -> None:
        """Writes the picture as its suffix says.

        Args:
            path: ends in .svg, .png or .pdf, see `check_suffix`.
            svg: result of `svg`.
        """
        suffix = Path(path).suffix.lower()
        write_atomic(path, {".png": self.png, ".pdf": self.pdf}.get(suffix, svg.encode)())


def check_suffix(path: str | Path) -> None:
    """Raises InputError for a file that is no kind of picture."""
    if Path(path).suffix.lower() not in (".svg", ".png", ".pdf"):
        raise InputError(f'`path` must end in .svg, .png or .pdf, got "{path}".')
