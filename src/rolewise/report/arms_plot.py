"""The arms of an experiment as a dot plot: paired differences to no schedule, with their intervals."""

from collections.abc import Sequence

from rolewise.experiments.tabulate import ArmGroup, ArmRow
from rolewise.report.plots import Sheet, drawing
from rolewise.report.theme import Theme

_ROW, _TOP, _BOTTOM, _LEFT, _RIGHT = 24, 46, 44, 190, 20
_WIDTH = 620
_COLORS = {"a_s": "student", "a_t": "teacher"}


@drawing()
def arms_plot(groups: Sequence[ArmGroup], theme: Theme, *, width: int = _WIDTH) -> str:
    """One panel for each training, one row for each arm; zero is the same training without a schedule.

    Args:
        groups: trainings with their arms; those without differences are left out.
        theme: source of the colors.
        width: natural width, CSS pixels.

    Returns:
        The SVG; an empty text where there is nothing to draw.
    """
    drawn = [(group, rows) for group in groups if (rows := [row for row in group.rows if row.to_none])]
    if not drawn:
        return ""
    left = _LEFT if width >= _WIDTH else 140
    heights = [_TOP + _ROW * len(rows) + _BOTTOM for _, rows in drawn]
    sheet, low_high = Sheet(width, sum(heights), theme), _range([row for _, rows in drawn for row in rows])
    top = 0
    for (group, rows), height in zip(drawn, heights, strict=True):
        axes = sheet.axes(left, top + _TOP, width - _RIGHT, top + height - _BOTTOM)
        axes.grid(visible=False)
        axes.set(xlim=low_high, ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks([])
        # The title begins at the picture's left edge, above the names of the arms.
        sheet.text(
            axes, (0, 1), group.title, color="ink", shift=(8 - left, 12), xycoords="axes fraction", va="bottom",
            ha="left", fontsize=11.5,
        )  # fmt: skip
        sheet.path(axes, [("move", [(0, -0.5)]), ("line", [(0, len(rows) - 0.5)])], "muted", 1.0, order=1)
        for number, row in enumerate(rows):
            _row(sheet, axes, number, row)
        axes.set_xlabel(
            "points above no schedule", color=theme("muted"), fontsize=10.5, loc="right", labelpad=2
        )
        top += height
    words = "; ".join(f"{group.title}: {_words(row)}" for group, rows in drawn for row in rows)
    return sheet.svg("Arms: paired differences to no schedule, in points", words)


def _row(sheet: Sheet, axes: object, number: int, row: ArmRow) -> None:
    difference = row.to_none
    assert difference is not None
    color, mean = _COLORS.get(row.word, "plain"), 100 * difference.mean
    if difference.low is not None and difference.high is not None:
        ends = (100 * difference.low, number), (100 * difference.high, number)
        line = sheet.path(axes, [("move", [ends[0]]), ("line", [ends[1]])], color, 5, alpha=0.35)
        sheet.tip(line, _words(row))
    sheet.dot(axes, (mean, number), color)
    # Beside the axes, where no interval reaches.
    sheet.text(
        axes, (0, number), row.title, color="ink", shift=(-10, 0), xycoords=("axes fraction", "data"), ha="right",
        va="center",
    )  # fmt: skip


def _words(row: ArmRow) -> str:
    difference = row.to_none
    assert difference is not None
    text = f"{row.title} {100 * difference.mean:+.2f}"
    if difference.low is None or difference.high is None:
        return f"{text} (one seed)"
    return f"{text} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}], {difference.n} seeds"


def _range(rows: Sequence[ArmRow]) -> tuple[float, float]:
    ends = [0.0]
    for row in rows:
        if row.to_none is not None:
            one = row.to_none
            ends += [100 * one.mean, *(100 * end for end in (one.low, one.high) if end is not None)]
    # A wide interval of two seeds must not squeeze all others.
    low, high = max(min(ends), -15.0), min(max(ends), 15.0)
    room = 0.06 * max(high - low, 1.0)
    return low - room, high + room
