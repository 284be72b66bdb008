"""The picture of a search, and curves over epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from rolewise.report.lineage_data import LEVELS, LineageData
from rolewise.report.plots import PANEL, Sheet, Step, drawing
from rolewise.report.theme import Theme

_MANY = 60  # copies; more of them are drawn fainter
_SMALL = 600  # pixels
_SIDES = (34, 12)  # pixels left and right of the tracks


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: title of the curve.
        color: name of the color.
        x, y: its points.
        dashed: a broken line.
        dots: points alone.
    """

    name: str
    color: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    dots: bool = False


@drawing()
def lineage_figure(title: str, found: LineageData, theme: Theme, *, color: str, width: int = 1000) -> str:
    """Members as tracks shaded by rank, copies as curves, the best member's history over all in `color`."""
    row = 22 if found.population > 8 else 28
    end = 10 + row * found.population
    height = end + (200 if found.spread else 40)
    sheet = Sheet(width, height, theme)
    axes = sheet.axes(_SIDES[0], 10, width - _SIDES[1], end)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.set(xlim=(0, found.epochs), ylim=(found.population - 0.5, -0.5))
    axes.set_yticks(range(found.population), [str(member) for member in range(found.population)])
    axes.get_yticklabels()[found.best].set(color=theme(color), fontweight="bold")
    for level in (None, *range(LEVELS)):
        lines = [[(s.start, s.member), (s.end, s.member)] for s in found.stretches if s.level == level]
        if lines:
            sheet.tracks(axes, lines, "line" if level is None else f"rank{level}", 0.46 * row)
    bend = _bend(found, (width - sum(_SIDES)) / max(1, found.epochs))
    _draw_copies(sheet, axes, found, bend)
    _draw_best(sheet, axes, found, color, bend)
    if found.spread:
        axes.set_xticks([])
        axes = sheet.axes(_SIDES[0], end + 44, width - _SIDES[1], height - 34)
        _draw_spread(sheet, axes, found, color)
    sheet.epochs(axes)
    words = ", then ".join(f"member {branch.member} to epoch {branch.end}" for branch in found.branches)
    return sheet.svg(title, f"{found.population} members, {len(found.copies)} copies. Best history: {words}.")


@drawing()
def curves_figure(title: str, heading: str, lines: Sequence[Line], theme: Theme, *, epochs: int) -> str:
    """Curves over epochs; the vertical axis says `heading`."""
    width, height = PANEL
    sheet = Sheet(width, height, theme)
    axes = sheet.axes(40, 32, width - 14, height - 34)
    for line in lines:
        style: dict[str, Any] = {"lw": 1.3, "ls": (0, (4, 2.5))} if line.dashed else {"lw": 1.7}
        if line.dots:
            style = {"marker": "o", "ms": 6, "ls": "none", "clip_on": False, "mec": theme("paper"), "mew": 1}
        (artist,) = axes.plot(line.x, line.y, color=theme(line.color), zorder=4 if line.dots else 3, **style)
        sheet.tip(artist, f"{line.name}: {line.y[-1]:.4g} after epoch {line.x[-1]:g}")
    axes.set_xlim(0, max(1, epochs))
    axes.margins(y=0.06)
    sheet.heading(axes, heading)
    sheet.values(axes)
    sheet.epochs(axes)
    return sheet.svg(title, "; ".join(f"{line.name} ends at {line.y[-1]:.4g}" for line in lines) + ".")


def _draw_copies(sheet: Sheet, axes: Any, found: LineageData, bend: float) -> None:
    """Thin curves from source to target at the epoch of the copy; on a small sheet they are one shape without tips."""
    many, small = len(found.copies) > _MANY, sheet.width < _SMALL
    width, alpha = (0.7, 0.4) if many else (1.0, 0.75)
    heads, whole = [], []
    for exploit, _ in found.copies:
        x, source, target = exploit.epoch, exploit.source, exploit.target
        steps: list[Step] = [("move", [(x - bend, source)]), _turn(x, source, target, bend)]
        heads.append((x + bend, target))
        if small:
            whole += steps
            continue
        scores = [_percent(score) for score in (exploit.target_score, exploit.source_score)]
        words = f"epoch {x}: {target} ({scores[0]}) overwritten by {source} ({scores[1]})"
        sheet.tip(sheet.path(axes, steps, "ink", width, alpha=alpha), words)
    if whole:
        sheet.path(axes, whole, "ink", width, alpha=alpha)
    if heads:
        xs, ys = zip(*heads, strict=True)
        axes.scatter(
            xs, ys, marker=">", s=9 if many else 22, color=sheet.theme("ink"), linewidths=0, zorder=4
        )


def _draw_best(sheet: Sheet, axes: Any, found: LineageData, color: str, bend: float) -> None:
    """The best member's history as one line, in a rim of paper that sets it off."""
    if not found.branches:
        return
    first, last = found.branches[0], found.branches[-1]
    steps: list[Step] = [("move", [(first.start, first.member)])]
    for before, branch in pairwise(found.branches):
        steps += [
            ("line", [(branch.start - bend, before.member)]),
            _turn(branch.start, before.member, branch.member, bend),
        ]
    steps.append(("line", [(last.end, last.member)]))
    sheet.path(axes, steps, "paper", 6.0, order=5)
    sheet.path(axes, steps, color, 3.0, order=6)
    axes.plot([last.end], [last.member], "o", ms=9, color=sheet.theme(color), zorder=7, clip_on=False)


def _draw_spread(sheet: Sheet, axes: Any, found: LineageData, color: str) -> None:
    epochs, best, upper, median, lower, worst = np.array(found.spread).T * [[1], *[[100]] * 5]
    axes.fill_between(epochs, worst, best, color=sheet.theme("rank1"), linewidth=0)
    axes.fill_between(epochs, lower, upper, color=sheet.theme("rank3"), linewidth=0)
    axes.plot(epochs, median, color=sheet.theme("ink"), lw=1.2)
    axes.plot(epochs, best, color=sheet.theme(color), lw=1.6)
    axes.set_xlim(0, found.epochs)
    sheet.heading(axes, "validation accuracy, %: best, median, quartiles, range")
    sheet.values(axes, 4)


def _bend(found: LineageData, scale: float) -> float:
    """Half the width of a copy's curve in epochs of `scale` pixels: 24 pixels, or a third of the gap to the next."""
    bounds = sorted({0, found.epochs, *(exploit.epoch for exploit, _ in found.copies)})
    return min(min((b - a for a, b in pairwise(bounds)), default=1) / 3, 24 / scale)


def _turn(x: float, source: int, target: int, bend: float) -> Step:
    return ("curve", [(x + 0.4 * bend, source), (x - 0.4 * bend, target), (x + bend, target)])


def _percent(score: float | None) -> str:
    return "diverged" if score is None else f"{100 * score:.1f} %"
