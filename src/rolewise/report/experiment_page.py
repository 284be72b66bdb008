"""An experiment as one self-contained HTML page."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from rolewise.augment import Schedule
from rolewise.bits import FULL
from rolewise.errors import InputError
from rolewise.experiments.claims import Verdict
from rolewise.experiments.results import CellResult, Results
from rolewise.experiments.tabulate import ArmGroup, Grid, costs
from rolewise.report import experiment_words as words
from rolewise.report import text
from rolewise.report.arms_plot import arms_plot
from rolewise.report.experiment_words import Commands
from rolewise.report.schedule_data import schedule_data
from rolewise.report.schedule_plot import magnitude_panel, probability_panel
from rolewise.report.template import render
from rolewise.report.theme import Theme, families, style_sheet

_NARROW = 400  # pixels: the second drawing of the arms, for telephones
_STATES = {"verified": "student", "contradicted": "other", "undecided": "muted", "not run": "plain"}
_COLUMNS = ("Teacher, A_T", "Student, A_S")  # of figure 3
_SCOPES = {"paper": "In the paper's own tables", "study": "In the study"}


def experiment_page(
    results: Results,
    verdicts: tuple[Verdict, ...],
    grids: Sequence[Grid],
    groups: Sequence[ArmGroup],
    *,
    title: str,
    commands: Commands,
) -> str:
    """The page. Every text in it that is not ours is escaped.

    Args:
        results: measured results.
        verdicts: verdicts on the claims.
        grids: tables in the paper's form.
        groups: arms of each training.
        title: heading.
        commands: what repeats the experiment, whole and piece by piece.
    """
    theme = Theme(page=True)
    schedules, used = _schedules(results)
    context = {
        "title": title,
        "scale": results.title,
        "summary": words.sentences(results, verdicts),
        "facts": _facts(results),
        "failures": sorted(results.failures.items()),
        "verdicts": [_verdict(one, before) for one, before in zip(verdicts, (None, *verdicts), strict=False)],
        "grids": [_grid(grid) for grid in grids],
        "plot": Markup(arms_plot(groups, theme)),
        "narrow": Markup(arms_plot(groups, theme, width=_NARROW)),
        "groups": [
            {"title": group.title, "rows": [words.arm(row) for row in group.rows]} for group in groups
        ],
        "schedules": schedules,
        "families": families(used),
        "facts_of_schedules": _schedule_facts(results),
        "costs": _costs(results),
        "commands": commands,
        "hardware": words.hardware(results),
        "colors": Markup(style_sheet()),
    }
    return render("experiment.html.j2", context)


def _facts(results: Results) -> list[tuple[str, str]]:
    filled = sum(bool(one.outcomes) for one in results.cells)
    return [
        ("Scale", results.title),
        ("Cells with results", f"{filled} of {len(results.cells)}"),
        ("Seeds asked for", str(len(results.seeds))),
    ]


def _verdict(one: Verdict, before: Verdict | None) -> dict[str, Any]:
    """What the page shows of a verdict; the first of its scope comes with a heading."""
    rows = [
        (
            each.comparison.title,
            words.judged(each),
            "" if each.difference is None else f"n = {each.difference.n}",
        )
        for each in one.judged
    ]
    return {
        "state": one.state,
        "color": _STATES[one.state],
        "sentence": one.claim.sentence,
        "source": one.claim.source,
        "scale": one.scale,
        "reason": one.reason,
        "rows": rows,
        "heading": _SCOPES[one.claim.scope]
        if before is None or before.claim.scope != one.claim.scope
        else "",
    }


def _grid(grid: Grid) -> dict[str, Any]:
    rows = [{"title": title, "cells": [_cell(cell) for cell in cells]} for title, cells in grid.rows]
    paper = any(cell is not None and cell.cell.paper is not None for _, cells in grid.rows for cell in cells)
    return {"name": grid.name, "title": grid.title, "columns": grid.columns, "rows": rows, "paper": paper}


def _cell(cell: CellResult | None) -> dict[str, str] | None:
    if cell is None:
        return None
    missing = words.reason(cell) if cell.summary is None else ""
    return {
        "missing": missing,
        "why": "; ".join(dict.fromkeys(cell.missing.values())),
        "value": words.accuracy(cell),
        "paper": words.paper(cell),
        "interval": words.interval(cell),
        "count": words.count(cell),
    }


def _schedules(results: Results) -> tuple[list[dict[str, Any]], set[str]]:
    """A_T of a full-precision teacher and A_S of its 4-bit student, of the first seed that has both."""
    cells = {name: cell for name, cell in zip(_COLUMNS, _figure3(results), strict=True) if cell is not None}
    both = set.intersection(*(set(cell.schedules) for cell in cells.values())) if cells else set()
    found: list[dict[str, Any]] = []
    used: set[str] = set()
    for name, cell in cells.items():
        seed = min(both or cell.schedules)
        schedule, theme = Schedule.load(cell.schedules[seed]), Theme(page=True)
        title = f"{name}: {cell.cell.setup.data}, {cell.cell.setup.bits} bit, seed {seed}"
        try:
            used |= set(schedule_data(schedule).used)
            panels = [
                Markup(draw(f"{title}: {what} of each op by epoch", schedule, theme))
                for what, draw in (("probability", probability_panel), ("magnitude", magnitude_panel))
            ]
        except InputError:
            continue  # a control's policies have no probabilities; figure 3 shows searched ones
        found.append({"title": title, "panels": panels})
    return found, used


def _figure3(results: Results) -> tuple[CellResult | None, CellResult | None]:
    searched = [one for one in results.cells if one.schedules]
    teachers = [
        one for one in searched if one.cell.setup.role == "teacher" and one.cell.setup.schedule == "a_t"
    ]
    students = [one for one in searched if one.cell.setup.schedule == "a_s" and one.cell.setup.bits != FULL]
    students.sort(key=lambda one: (-one.cell.setup.bits, one.cell.setup.loss != "ii-kd"))
    return next(iter(teachers), None), next(iter(students), None)


def _schedule_facts(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in results.cells:
        for seed, facts in sorted(one.facts.items()):
            first = round(facts.first_epoch * facts.epochs)
            start = "never" if first >= facts.epochs else str(first + 1)
            rows.append((one.cell.id, str(seed), str(facts.changes), start, str(facts.epochs)))
    return rows


def _costs(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            cost["kind"],
            str(cost["runs"]),
            f"{cost['images']:,}",
            text.duration(cost["seconds"]),
            text.duration(cost["cpu_seconds"]),
        )
        for cost in costs(results)
    ]
