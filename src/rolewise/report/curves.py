"""Learning curves of the final trainings, from the lines of `metrics.jsonl`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rolewise.report.load import Run
from rolewise.report.search_plot import Line
from rolewise.runs import layout

_COLORS = {
    "teacher": "teacher",
    "student": "student",
    "student-plain": "plain",
    "student-kd": "kd",
    "student-a-t": "other",
    "student-scratch": "scratch",
    "teacher-plain": "plain",
}
_SPARE = ("student", "plain", "kd", "other")
_STYLES = {"train": {}, "validation": {"dashed": True}, "test": {"dots": True}}


@dataclass(frozen=True)
class Curves:
    """The curves of one role.

    Attributes:
        accuracy: what to draw, in percent.
        loss: what to draw: the task's loss, so that trainings with and without distillation share a scale.
        legend: (name, color by name) of the trainings.
        epochs: end of the axis.
        same: groups of trainings whose lines coincide, so that one hides the others.
    """

    accuracy: tuple[Line, ...]
    loss: tuple[Line, ...]
    legend: tuple[tuple[str, str], ...]
    epochs: int
    same: tuple[tuple[str, ...], ...]


def curves(run: Run, role: str) -> Curves | None:
    """The curves of all trainings of a role; None if none has completed an epoch."""
    lines = [
        line
        for line in run.metrics
        if line.get("role") == role and line.get("member") is None and line.get("epoch") is not None
    ]
    # A network that was trained elsewhere has been tested and no more: there is nothing to follow.
    keys = list(dict.fromkeys(_key(line) for line in lines if line.get("split") != "test"))
    if not keys:
        return None
    names = {row["key"]: row["name"] for row in run.rows}
    legend = [
        (names.get(key, key), _COLORS.get(key, _SPARE[number % len(_SPARE)]))
        for number, key in enumerate(keys)
    ]
    drawn: dict[str, list[Line]] = {"accuracy": [], "loss": []}
    for key, (name, color) in zip(keys, legend, strict=True):
        for split, style in _STYLES.items():
            chosen = [line for line in lines if _key(line) == key and line.get("split") == split]
            for value, scale in (("accuracy", 100), ("loss", 1)):
                points = _points(chosen, value, scale)
                if points:
                    x, y = zip(*points, strict=True)
                    drawn[value].append(Line(f"{name}, {split}", color, x, y, **style))
    epochs = max(line["epoch"] for line in lines)
    same: dict[tuple[Sequence[float], ...], list[str]] = {}
    for line in drawn["accuracy"]:
        if line.name.endswith(", train"):
            same.setdefault((line.x, line.y), []).append(line.name.removesuffix(", train"))
    groups = tuple(tuple(names) for names in same.values() if len(names) > 1)
    return Curves(tuple(drawn["accuracy"]), tuple(drawn["loss"]), tuple(legend), epochs, groups)


def _key(line: dict[str, Any]) -> str:
    """Which training a line belongs to: `train-student-kd` is that of `student-kd`, a bare `train` that of its role."""
    return layout.trained_in(str(line.get("stage"))) or str(line["role"])


def _points(lines: Sequence[dict[str, Any]], value: str, scale: float) -> list[tuple[float, float]]:
    names = ("task", "loss") if value == "loss" else (value,)
    known = {line["epoch"]: next((line[name] for name in names if name in line), None) for line in lines}
    return [
        (epoch, scale * found) for epoch, found in sorted(known.items()) if isinstance(found, int | float)
    ]
