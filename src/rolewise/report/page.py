"""The report as one self-contained HTML file."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from rolewise._roles import ROLES, SCHEDULES
from rolewise.augment import Schedule
from rolewise.errors import InputError
from rolewise.experiments.statistics import wilson_interval
from rolewise.report import text
from rolewise.report.classes import classes
from rolewise.report.curves import Curves, curves
from rolewise.report.inference import inference
from rolewise.report.load import Run
from rolewise.report.schedule_data import schedule_data
from rolewise.report.schedule_plot import magnitude_panel, probability_panel
from rolewise.report.search_plot import curves_figure, lineage_figure
from rolewise.report.template import render
from rolewise.report.theme import Theme, families, style_sheet
from rolewise.runs.titles import network_title, schedule_title, stage_title

LOSSES = {
    "soft": "soft labels",
    "dml": "DML",
    "rkd": "RKD",
    "mhgd": "MHGD",
    "kd-svd": "KD-SVD",
    "ii-kd": "II-KD",
}
_NARROW = 420  # pixels: the second drawing of a search, for telephones

_IDLE = ", no operation"  # of a schedule that does nothing


def html_page(run: Run) -> str:
    """The page. Every text in it that is not ours is escaped."""
    searches = [found for role in ROLES if (found := _search(run, role)) is not None]
    schedules = [_schedule(run, role, *found) for role, found in run.shown_schedules().items()]
    drawn = {role: lines for role in ROLES if (lines := curves(run, role)) is not None}
    context = {
        "title": text.title(run),
        "name": run.path.resolve().name,
        "summary": text.summary(run),
        "facts": facts(run),
        "missing": run.missing(),
        "results": results(run),
        "caution": text.caution(run),
        "inference": inference(run),
        "classes": classes(run),
        "schedules": schedules,
        "families": families({op for schedule in schedules for op in schedule["ops"]}),
        "searches": searches,
        "curves": [_curves(role, found) for role, found in drawn.items()],
        "curves_words": text.curves_words(list(drawn.values())),
        "costs": costs(run),
        "settings": settings(run),
        "environment": text.flatten(run.environment),
        "colors": Markup(style_sheet()),
        "faults": run.faults,  # last: drawing may add to it
    }
    return render("report.html.j2", context)


def facts(run: Run) -> list[tuple[str, str]]:
    """The few things one wants to know before any number."""
    config, hardware = run.config, run.environment.get("hardware") or {}
    found = [("Seed", str(config.get("seed", "\N{EN DASH}")))]
    if "preset" in config:
        found.append(("Preset", str(config["preset"])))
    if run.costs:
        found.append(("Computed in", text.duration(sum(cost["seconds"] for cost in run.costs))))
    machine = ", ".join(hardware.get("gpus") or []) or str(hardware.get("cpu", ""))
    if machine:
        found.append(("On", f"{machine}, {hardware.get('cores')} cores"))
    version = (run.environment.get("versions") or {}).get("rolewise")
    if version:
        commit = str(run.environment.get("commit") or "")
        found.append(
            (
                "rolewise",
                f"{version} ({commit[:9]}{'+' if commit.endswith('+') else ''})" if commit else str(version),
            )
        )
    return found


def results(run: Run) -> dict[str, Any] | None:
    """The rows of the result table, the baselines last; None if there is no row."""
    if not run.rows:
        return None
    low, high = text.scale(run.rows)
    width = max(high - low, 1e-9)
    rows = []
    ordered = sorted(run.rows, key=lambda row: (row["baseline"], row["role"] != "teacher"))
    for row in ordered:
        ends = wilson_interval(row["accuracy"], row["n"])
        schedule = schedule_title(row)
        rows.append(
            {
                **row,
                "bits": f"{row['weight_bits']}/{row['act_bits']}",
                "kd": LOSSES.get(row["kd"], Path(row["kd"]).name) if row["kd"] else None,
                "name": network_title(row)
                + (f" (the same training as {row['same_as']})" if row.get("same_as") else ""),
                "schedule": symbol(schedule),
                "schedule_name": schedule and schedule + (_IDLE if row.get("no_operation") else ""),
                "idle": _IDLE if row.get("no_operation") else "",
                "percent": text.percent(row["accuracy"]),
                "averaged": None
                if row["accuracy_averaged"] is None
                else text.percent(row["accuracy_averaged"]),
                "best": None
                if row["best_epoch"] is None
                else f"{text.percent(row['accuracy_best_epoch'])} (epoch {row['best_epoch']})",
                "interval": f"{100 * ends[0]:.1f}\N{EN DASH}{100 * ends[1]:.1f}",
                "left": round(100 * (ends[0] - low) / width, 2),
                "width": round(100 * (ends[1] - ends[0]) / width, 2),
                "dot": round(100 * (row["accuracy"] - low) / width, 2),
            }
        )
    batch = [
        (row["name"], text.percent(row["accuracy_batch_statistics"]))
        for row in ordered
        if isinstance(row.get("accuracy_batch_statistics"), float)
    ]
    return {"rows": rows, "low": f"{100 * low:g}", "high": f"{100 * high:g} %", "batch": batch}


def symbol(name: str | None) -> str | None:
    """A_T and A_S as the paper sets them."""
    return Markup("A<sub>{}</sub>").format(name[-1]) if name and name in SCHEDULES.values() else name


def costs(run: Run) -> dict[str, Any] | None:
    """What each stage took, and all together."""
    if not run.costs:
        return None
    total = sum(cost["seconds"] for cost in run.costs)
    rows = [_cost({**cost, "stage": stage_title(cost["stage"])}, total) for cost in run.costs]
    known = [cost["cpu_seconds"] for cost in run.costs if cost["cpu_seconds"] is not None]
    images = sum(cost["images"] or 0 for cost in run.costs)
    whole = {
        "stage": "all",
        "seconds": total,
        "cpu_seconds": sum(known) if known else None,
        "images": images or None,
    }
    return {"rows": rows, "total": _cost(whole, total)}


def settings(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """The settings by section; those that belong to none come first."""
    plain = {key: value for key, value in run.config.items() if not isinstance(value, dict)}
    found = [("Run", text.flatten(plain))] if plain else []
    return found + [
        (key.capitalize() if key != "kd" else "Distillation", text.flatten(value))
        for key, value in run.config.items()
        if isinstance(value, dict) and value
    ]


def _cost(cost: dict[str, Any], total: float) -> dict[str, Any]:
    seconds, cpu, images = cost["seconds"], cost["cpu_seconds"], cost["images"]
    return {
        "stage": cost["stage"],
        "time": text.duration(seconds),
        "cpu": "\N{EN DASH}" if cpu is None else text.duration(cpu),
        "images": "\N{EN DASH}" if not images else f"{images:,}",
        "rate": "\N{EN DASH}" if not images or not seconds else f"{images / seconds:,.0f}",
        "share": round(100 * seconds / total, 1) if total else 0.0,
    }


def _schedule(run: Run, role: str, name: str, schedule: Schedule) -> dict[str, Any]:
    theme = Theme(page=True)
    found: dict[str, Any] = {"role": role, "title": Markup("{}: {}").format(role.capitalize(), symbol(name))}
    found |= {"panels": [], "ops": (), "segments": text.segments(schedule), "epochs": len(schedule)}
    try:
        numbers = schedule_data(schedule)
    except InputError as error:
        run.faults.append(f"{name} cannot be drawn: {error}")
        return found | {"instead": "Its policies have no probability and magnitude per op."}
    if not numbers.used:
        return found | {"instead": "No augmentation in any epoch."}
    panels = [
        Markup(draw(f"{role.capitalize()}, {name}: {what} of each op by epoch", schedule, theme))
        for what, draw in (("probability", probability_panel), ("magnitude", magnitude_panel))
    ]
    return found | {"panels": panels, "ops": numbers.used, "instead": None}


def _search(run: Run, role: str) -> dict[str, Any] | None:
    found = run.lineage_data(role)
    if found is None:
        return None
    theme = Theme(page=True)
    title = f"Search of the {role}'s schedule"
    wide, narrow = (
        Markup(lineage_figure(f"{title}{suffix}", found, theme, color=role, width=width))
        for suffix, width in (("", 1000), (" (small)", _NARROW))
    )
    return {
        "role": role,
        "title": title,
        "wide": wide,
        "narrow": narrow,
        "words": text.search_words(role, run, found),
    }


def _curves(role: str, found: Curves) -> dict[str, Any]:
    theme, who = Theme(page=True), role.capitalize()
    panels = [
        Markup(curves_figure(f"{who}: {what} by epoch", heading, lines, theme, epochs=found.epochs))
        for what, heading, lines in (
            ("accuracy", "accuracy, %", found.accuracy),
            ("loss", "task loss", found.loss),
        )
        if lines
    ]
    return {"title": who, "panels": panels, "legend": found.legend, "words": text.coincide(found.same)}
