"""What the report says in words and numbers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rolewise._roles import ROLES, SCHEDULES
from rolewise.augment import Policy, Schedule
from rolewise.data import title_of
from rolewise.experiments.statistics import wilson_interval
from rolewise.report.curves import Curves
from rolewise.report.lineage_data import LineageData
from rolewise.report.load import Run

_IDLE = ", which holds no augmentation"
_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


def percent(fraction: float | None) -> str:
    """A fraction in percent."""
    return "diverged" if fraction is None else f"{100 * fraction:.2f} %"


def bits(row: Mapping[str, Any]) -> str:
    """`32-bit`, `4-bit`, or `4/2-bit` where weights and activations differ."""
    weight, act = row["weight_bits"], row["act_bits"]
    return f"{weight}-bit" if weight == act else f"{weight}/{act}-bit"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8.4 s`, `12 min 5 s`, `3 h 7 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def title(run: Run) -> str:
    """What the run is about: data, network, bits."""
    data, teacher = run.section("data").get("name"), run.section("teacher").get("network")
    student = run.section("student")
    if not (data and teacher and student):
        return run.path.resolve().name
    name, teacher = title_of(str(data)), Path(str(teacher)).name
    pupil = Path(str(student.get("network") or teacher)).name
    if not {"weight_bits", "act_bits"} <= student.keys():
        return f"{name}: {teacher} to {pupil}"
    return f"{name}: {teacher} to {bits(student)} {pupil}"


def summary(run: Run) -> list[str]:
    """One or two sentences: what came out, and how much of it may be chance."""
    teacher, student, plain = run.row("teacher"), run.row("student"), run.row("student-plain")
    if student is None and teacher is None:
        return [_no_result(run)]
    if student is None:
        assert teacher is not None
        said = f"The teacher reaches {percent(teacher['accuracy'])} test accuracy{_under(run, teacher)}"
        return [f"{said}. The student's stage is not complete.", seed_caution(run.rows)]
    sentence = f"The {bits(student)} student reaches {percent(student['accuracy'])} test accuracy{_under(run, student)}"
    compared = []
    if plain is not None and plain.get("same_as") != student["key"]:
        compared.append(
            f"{_points(student, plain)} the same student trained without distillation and schedule"
        )
    if teacher is not None:
        compared.append(f"{_points(student, teacher)} its {bits(teacher)} teacher")
    if compared:
        sentence += ", " + " and ".join(compared)
    return [f"{sentence}.", seed_caution(run.rows)]


def caution(run: Run) -> str:
    """What the numbers of the table are, and are not."""
    rows = run.rows
    images = f"{rows[0]['n']:,} test images" if rows else "the test images"
    return (
        f"Test accuracy after the last epoch, on {images} never used for model selection, in "
        f"float32{_trained_in(rows)}; one run each (n = 1 seed). "
        "Intervals are binomial (Wilson, 95 %): they show how much the choice of test images moves a number, not how "
        "much another seed would."
    )


def _trained_in(rows: Sequence[Mapping[str, Any]]) -> str:
    """The precision of the trainings, where the rows say it."""
    names = sorted({_PRECISIONS[row["precision"]] for row in rows if row.get("precision") in _PRECISIONS})
    return f" (trained in {' and '.join(names)})" if names else ""


def search_words(role: str, run: Run, found: LineageData) -> list[str]:
    """What a search's picture shows."""
    copies, rounds = len(found.copies), found.rounds
    said = [
        f"{found.population} members, {_count(copies, 'exploit')} in {_count(rounds, 'round')}; "
        f"each track is a member; the stronger its shade, the higher its rank at the evaluation that follows."
    ]
    if run.searches.get(role) is None:
        said.append(
            f"The search has reached epoch {found.reached} of {found.epochs}; member {found.best} leads."
        )
    if not found.overwritten:
        said.append(
            f"The best member, {found.best}, was never overwritten: its schedule is the one it began with."
        )
    else:
        parts = [f"{branch.member} (to epoch {branch.end})" for branch in found.branches]
        shown = parts if len(parts) <= 7 else [*parts[:3], f"{len(parts) - 6} more", *parts[-3:]]
        said.append(f"The heavy line is the history of the best member, {found.best}: {', '.join(shown)}.")
    score = run.searches.get(role, {}).get("score")
    if isinstance(score, int | float):
        said.append(
            f"Its validation accuracy, {percent(score)}, only ranks the members: it is optimistic, and never a result."
        )
    return said


def coincide(same: Sequence[Sequence[str]]) -> str:
    """Which curves lie on one another; nothing if none do."""
    return " ".join(f"Equal in every epoch, one line over the other: {'; '.join(names)}." for names in same)


def curves_words(found: Sequence[Curves]) -> str:
    """What the lines, broken lines and dots of the learning curves are; of those that are drawn."""
    drawn = [line for curves in found for line in (*curves.accuracy, *curves.loss)]
    said = [
        "Lines: on the augmented training images, averaged over the epoch while the network changes; the loss is that "
        "of the task, without distillation."
    ]
    if any(line.dashed for line in drawn):
        said.append("Broken lines: held-out images.")
    if any(line.dots for line in drawn):
        said.append("Dots: test images, after the last epoch.")
    return " ".join(said)


def segments(schedule: Schedule, most: int = 60) -> list[dict[str, str]]:
    """A schedule as lines: which epochs, which ops with probability and magnitude of each copy in use."""
    lines, start = [], 1
    for length, policy in schedule.segments:
        epochs = f"{start}" if length == 1 else f"{start}\N{EN DASH}{start + length - 1}"
        if not isinstance(policy, Policy):
            words = type(policy).__name__
        else:
            used = sorted((name, p, m) for name, p, m in policy.settings if p)
            words = ", ".join(f"{name} {p / 10:g}/{m}" for name, p, m in used) or "no augmentation"
        lines.append({"epochs": epochs, "ops": words})
        start += length
    if len(lines) > most:
        return [
            *lines[: most - 1],
            {"epochs": "...", "ops": f"{len(lines) - most + 1} more segments in the file"},
        ]
    return lines


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings and facts as (dotted name, value); None is shown as a dash, memory in GB."""
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found += flatten(value, f"{prefix}{key}.")
        else:
            memory = key == "memory" and isinstance(value, int) and not isinstance(value, bool)
            found.append((f"{prefix}{key}", f"{value / 1e9:.1f} GB" if memory else _value(value)))
    return found


def _value(value: Any) -> str:
    if value is None or value in ({}, []):
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_value(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _under(run: Run, row: Mapping[str, Any]) -> str:
    """Under which schedule a network was trained, its own if this run searched it for the network's role."""
    name = row.get("schedule")
    if name is None:
        return ""
    owner = {name: role for role, name in SCHEDULES.items()}.get(str(name))
    if owner is None or owner not in run.schedules:
        return f" under {name}{_IDLE if row.get('no_operation') else ''}"
    whose = "its own" if owner == row["role"] else f"the {owner}'s"
    idle = row.get("no_operation") or run.schedules[owner].idle
    return f" under {whose} schedule{_IDLE if idle else ''}"


def _points(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    difference = 100 * (row["accuracy"] - other["accuracy"])
    if abs(difference) < 0.005:
        return "level with"
    return f"{abs(difference):.2f} points {'above' if difference > 0 else 'below'}"


def seed_caution(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far the choice of test images alone may move the accuracies of one seed; empty without rows."""
    ends = [wilson_interval(row["accuracy"], row["n"]) for row in rows]
    if not ends:
        return ""
    half = max(high - low for low, high in ends) / 2
    return f"One seed; each 95 % interval is about \N{PLUS-MINUS SIGN}{100 * half:.1f} points."


def _no_result(run: Run) -> str:
    begun = [role for role in ROLES if role in run.schedules]
    if begun:
        whose = " and ".join(f"the {role}'s" for role in begun)
        return f"This run holds {whose} schedule; no network has been trained to the end and tested."
    return "Nothing of this run is complete yet."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def scale(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The range of accuracies that the result table's marks are drawn over: round numbers around all intervals."""
    ends = [end for row in rows for end in wilson_interval(row["accuracy"], row["n"])]
    low, high = min(ends), max(ends)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if (high - low) / step <= 5)
    return max(0.0, math.floor(low / step + 1e-9) * step), min(1.0, math.ceil(high / step - 1e-9) * step)
