"""The picture of schedules: probabilities above magnitudes, as in figure 3 of the role-wise paper."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rolewise.augment import Schedule
from rolewise.errors import InputError
from rolewise.report.plots import PANEL, Sheet, check_suffix, drawing
from rolewise.report.schedule_data import ScheduleData, schedule_data
from rolewise.report.theme import Theme


@drawing()
def schedule_figure(items: Sequence[tuple[str, Schedule]], path: str | Path | None = None) -> str:
    """Figure 3 of the paper: per schedule its probabilities over its magnitudes, the schedules side by side.

    All schedules share their axes: probabilities are divided by the largest sum that any of them has, so that a weak
    schedule looks weak beside a strong one.

    Args:
        items: (title, schedule), each a column: the teacher's, then the student's.
        path: also written there, as SVG, PNG or PDF by its suffix.

    Returns:
        The SVG.

    Raises:
        InputError: nothing to draw, a schedule without probabilities and magnitudes, another suffix.
    """
    if not items:
        raise InputError("`items` must hold at least one (title, schedule), got none.")
    if path is not None:
        check_suffix(path)
    (width, height), top = PANEL, 26
    drawn = [schedule_data(schedule) for _, schedule in items]
    largest = max(numbers.largest for numbers in drawn)
    highest = max(_highest(numbers) for numbers in drawn)
    sheet = Sheet(width * len(items), top + 2 * height + 48, Theme(page=False))
    names: list[str] = []
    for column, ((title, _), numbers) in enumerate(zip(items, drawn, strict=True)):
        left = column * width
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
        _probability(sheet, axes, numbers, largest)
        axes = sheet.axes(left + 40, top + height + 32, left + width - 84, top + 2 * height - 34)
        _magnitude(sheet, axes, numbers, highest)
        names = sorted({*names, *numbers.ops})
    _legend(sheet, names)
    svg = sheet.svg(
        " and ".join(title for title, _ in items), "Probability and magnitude of each op by epoch."
    )
    if path is not None:
        sheet.write(path, svg)
    return svg


@drawing()
def probability_panel(title: str, schedule: Schedule, theme: Theme) -> str:
    """Stacked areas of the probabilities, normalized, alone."""
    return _panel(title, schedule_data(schedule), theme, _probability)


@drawing()
def magnitude_panel(title: str, schedule: Schedule, theme: Theme) -> str:
    """Stacked bars of the magnitudes, alone."""
    return _panel(title, schedule_data(schedule), theme, _magnitude)


def _panel(
    title: str, numbers: ScheduleData, theme: Theme, draw: Callable[[Sheet, Any, ScheduleData], None]
) -> str:
    width, height = PANEL
    sheet = Sheet(width, height, theme)
    draw(sheet, sheet.axes(40, 32, width - 84, height - 34), numbers)
    first = numbers.first
    active = [name for name, row in zip(numbers.ops, numbers.probability, strict=True) if row.any()]
    words = "no op in use" if first is None else f"from epoch {first + 1} on: {', '.join(active)}"
    return sheet.svg(title, f"{numbers.epochs} epochs, {len(numbers.steps())} policies; {words}.")


def _probability(sheet: Sheet, axes: Any, numbers: ScheduleData, largest: float | None = None) -> None:
    """Stacked areas; `largest` is the sum that is drawn as 1, None the schedule's own."""
    steps = numbers.steps()
    edges = np.array([edge for step in steps for edge in step], dtype=float)
    columns = np.repeat([first for first, _ in steps], 2)
    tops = np.cumsum(numbers.probability, axis=0) * (numbers.largest / largest if largest else 1.0)
    for number, name in enumerate(numbers.ops):
        upper, lower = (
            tops[number, columns],
            (tops[number - 1, columns] if number else np.zeros(len(columns))),
        )
        if (upper > lower).any():
            color = sheet.theme.op(name)
            area = axes.fill_between(
                edges, lower, upper, color=color, linewidth=0.4, edgecolor=sheet.theme("paper")
            )
            most = (upper - lower).max() * (largest or numbers.largest)
            sheet.tip(area, f"{name}: probability up to {most:.2f}")
    axes.set(xlim=(0, numbers.epochs), ylim=(0, 1))
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    sheet.heading(axes, "probability, largest sum = 1")
    sheet.epochs(axes)
    _label_ends(sheet, axes, numbers.ops, tops[:, -1])
    _quiet(sheet, axes, numbers, 0.5)


def _quiet(sheet: Sheet, axes: Any, numbers: ScheduleData, height: float) -> None:
    """Says that the first epochs are empty, where they are many."""
    quiet = numbers.epochs if numbers.first is None else numbers.first
    if quiet >= 0.25 * numbers.epochs:
        sheet.text(axes, (quiet / 2, height), "no\naugmentation", ha="center", va="center", linespacing=1.4)


def _highest(numbers: ScheduleData) -> float:
    """The upper end of the axis of magnitudes."""
    return float(max(1.0, numbers.magnitude[:, list(numbers.bars)].sum(axis=0).max(initial=0.0) * 1.03))


def _magnitude(sheet: Sheet, axes: Any, numbers: ScheduleData, highest: float | None = None) -> None:
    """Stacked bars; `highest` is the upper end of the axis, None fits the schedule's own."""
    highest = highest or _highest(numbers)
    step = numbers.bars[1] - numbers.bars[0] if len(numbers.bars) > 1 else numbers.epochs
    heights = numbers.magnitude[:, list(numbers.bars)]
    tops = np.cumsum(heights, axis=0)
    for number, name in enumerate(numbers.ops):
        for k, epoch in enumerate(numbers.bars):
            if heights[number, k] > 0:
                corner = (epoch + 0.12 * step, tops[number, k] - heights[number, k])
                tip = f"{name}, epoch {epoch}: magnitude {heights[number, k]:g}"
                sheet.bar(axes, corner, 0.76 * step, heights[number, k], sheet.theme.op(name), tip)
    axes.set(xlim=(0, numbers.bars[-1] + step), ylim=(0, highest))
    _quiet(sheet, axes, numbers, highest / 2)
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
        sheet.swatch(axes, (x, y - 5), 10, sheet.theme.op(name))
        sheet.text(axes, (x, y), name, color="ink", shift=(15, 0), va="center")
