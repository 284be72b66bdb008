"""The report as Markdown: the same words and figures as on the page, and its pictures as SVG files."""

import re
from collections.abc import Sequence

from rolewise._roles import ROLES
from rolewise.errors import InputError
from rolewise.report import text
from rolewise.report.classes import classes
from rolewise.report.curves import curves
from rolewise.report.inference import inference
from rolewise.report.load import Run
from rolewise.report.page import costs, facts, results, settings
from rolewise.report.schedule_plot import schedule_figure
from rolewise.report.search_plot import curves_figure, lineage_figure
from rolewise.report.theme import Theme
from rolewise.runs import layout

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#&~$])")


def markdown(run: Run, folder: str) -> tuple[str, dict[str, str]]:
    """The text, and the pictures by file name.

    Args:
        folder: folder of the pictures, relative to the text.
    """
    pictures: dict[str, str] = {}
    parts = [f"# {_escape(text.title(run))}", " ".join(map(_escape, text.summary(run)))]
    parts.append("\n".join(f"- {_escape(label)}: {_escape(value)}" for label, value in facts(run)))
    body = _body(run, folder, pictures)  # before the notices: drawing may add to the faults
    return "\n\n".join([*parts, *_notices(run), *body]) + "\n", pictures


def _body(run: Run, folder: str, pictures: dict[str, str]) -> list[str]:
    parts: list[str] = []
    found = results(run)
    if found:
        averaged = any(row["averaged"] for row in found["rows"])
        chosen = any(row["best"] for row in found["rows"])
        lines = [
            (
                row["name"],
                row["bits"],
                row["kd"] or "none",
                row["schedule_name"] or "none",
                row["percent"],
                row["interval"],
                *([row["averaged"] or "\N{EN DASH}"] if averaged else []),
                *([row["best"] or "\N{EN DASH}"] if chosen else []),
            )
            for row in found["rows"]
        ]
        head = ["Network", "Bits W/A", "Distillation", "Schedule", "Test accuracy", "95 % interval"]
        head += ["Averaged weights"] if averaged else []
        head += ["Best on held-out images"] if chosen else []
        parts += ["## Results", _escape(text.caution(run)), _table(head, lines)]
        if found["batch"]:
            parts.append("With batch normalization over each test batch, as the authors' release measured:")
            parts.append(_table(("Network", "Test accuracy"), found["batch"]))
    parts += _inference(run)
    parts += _classes(run)
    parts += _schedules(run, folder, pictures)
    for role in ROLES:
        lineage = run.lineage_data(role)
        if lineage is not None:
            name, title = f"{layout.search_stage(role)}.svg", f"Search of the {role}'s schedule"
            pictures[name] = lineage_figure(title, lineage, Theme(page=False), color=role)
            parts += [f"## {title}", f"![{title}]({folder}/{name})"]
            parts.append(" ".join(map(_escape, text.search_words(role, run, lineage))))
    parts += _learning(run, folder, pictures)
    spent = costs(run)
    if spent:
        rows = [*spent["rows"], spent["total"]]
        lines = [tuple(row[key] for key in ("stage", "time", "cpu", "images", "rate")) for row in rows]
        parts += ["## What it cost", _table(("Stage", "Time", "Processor time", "Images", "Images/s"), lines)]
    parts.append("## Settings and environment")
    for section, entries in [*settings(run), ("Environment", text.flatten(run.environment))]:
        if entries:
            parts += [f"### {_escape(section)}", _table(("Setting", "Value"), entries)]
    return parts


def _inference(run: Run) -> list[str]:
    """Size and speed of the student."""
    found = inference(run)
    if found is None:
        return []
    parts = ["## Size and speed of the student", _escape(found["sentence"])]
    if not found["rows"]:
        return parts
    head = ["Runtime", "Arithmetic", "Bytes of the file"]
    for batch in found["batches"]:
        head += [f"Batch {batch}", "Speed"]
    lines = []
    for row in found["rows"]:
        pairs = zip(row["times"], row["speeds"], strict=True)
        lines.append((row["name"], row["arithmetic"], row["bytes"], *(one for pair in pairs for one in pair)))
    return [*parts, _table(head, lines), *map(_escape, found["notes"])]


def _classes(run: Run) -> list[str]:
    """What is recognized of each class."""
    found = classes(run)
    if found is None:
        return []
    lines = [(row["name"], f"{row['n']:,}", *row["percents"]) for row in found["rows"]]
    parts = [
        "## Classes",
        _table(("Class", "Test images", *(f"{role}, %" for role in found["roles"])), lines),
    ]
    if found["left_out"]:
        parts.append(f"These are recognized worst; {found['left_out']} more are not shown.")
    for one in found["confusions"]:
        rows = [(name, *map(str, row)) for name, row in zip(one["names"], one["cells"], strict=True)]
        parts += [f"### {one['title']}: taken for", _table(("Class", *one["names"]), rows)]
    return parts


def _notices(run: Run) -> list[str]:
    parts = []
    for title, sentences in (
        ("Not in this run, or not yet", run.missing()),
        ("Could not be read", run.faults),
    ):
        if sentences:
            parts.append(
                "\n".join([f"**{title}**", "", *(f"- {_escape(sentence)}" for sentence in sentences)])
            )
    return parts


def _schedules(run: Run, folder: str, pictures: dict[str, str]) -> list[str]:
    shown = run.shown_schedules()
    if not shown:
        return []
    items = [(f"{role.capitalize()}, {name}", schedule) for role, (name, schedule) in shown.items()]
    parts = ["## The schedules"]
    try:
        pictures["schedules.svg"] = schedule_figure(items)
        parts.append(f"![Probability and magnitude of each op by epoch]({folder}/schedules.svg)")
    except InputError as error:
        parts.append(_escape(str(error)))
    for title, schedule in items:
        lines = [(line["epochs"], line["ops"]) for line in text.segments(schedule)]
        parts += [f"### {_escape(title)}", _table(("Epochs", "Ops (probability/magnitude)"), lines)]
    return parts


def _learning(run: Run, folder: str, pictures: dict[str, str]) -> list[str]:
    drawn = {role: found for role in ROLES if (found := curves(run, role)) is not None}
    if not drawn:
        return []
    parts = ["## Learning curves", _escape(text.curves_words(list(drawn.values())))]
    for role, found in drawn.items():
        for what, heading, lines in (
            ("accuracy", "accuracy, %", found.accuracy),
            ("loss", "task loss", found.loss),
        ):
            if lines:
                name, title = f"{role}-{what}.svg", f"{role.capitalize()}: {what} by epoch"
                pictures[name] = curves_figure(title, heading, lines, Theme(page=False), epochs=found.epochs)
                parts.append(f"![{title}]({folder}/{name})")
        if found.same:
            parts.append(_escape(text.coincide(found.same)))
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(plain: str) -> str:
    """Text that Markdown, and HTML within it, take as text."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(plain).split())).replace("\\<", "&lt;").replace("\\>", "&gt;")
