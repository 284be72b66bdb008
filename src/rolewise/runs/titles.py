"""What people read of a run: the titles of its stages, and network and schedule of a row."""

from collections.abc import Mapping
from typing import Any

from rolewise._roles import STUDENT, TEACHER
from rolewise.runs import layout
from rolewise.runs.records import UNKNOWN

_STAGES = {
    layout.search_stage(TEACHER): "Teacher search",
    layout.search_stage(STUDENT): "Student search",
    layout.PREPARE: "Preparing the loss",
    layout.TRAIN: "Training",
}
_TRAININGS = {
    TEACHER: "Teacher training",
    STUDENT: "Student training",
    "teacher-plain": "Teacher without schedule",
    "student-plain": "Student without KD and schedule",
    "student-scratch": "Student from scratch",
    "student-kd": "Student with KD only",
    "student-a-t": "Student under A_T",
}


def stage_title(stage: str) -> str:
    """The name of a stage for people; of a further row, its own."""
    key = layout.trained_in(stage)
    if key is None:
        return _STAGES.get(stage, f"Training of {stage}")
    return _TRAININGS.get(key, f"Training of {key}")


def network_title(row: Mapping[str, Any]) -> str:
    """The network of a row of results, for a table that has its bits, loss and schedule in columns of their own.

    A row of an earlier version may not state its network; the row's whole title stands in for it then.
    """
    if row["network"] == UNKNOWN:
        return str(row["name"])
    scratch = row["role"] == STUDENT and row.get("init") == "random"
    return f"{row['role'].capitalize()} {row['network']}{', from scratch' if scratch else ''}"


def schedule_title(row: Mapping[str, Any]) -> str | None:
    """The source of the schedule of a row of results; None for no schedule.

    A teacher that was trained elsewhere begins with weights from a file; what it was trained under is not known.
    """
    elsewhere = row["role"] == TEACHER and row.get("init") not in (None, "random")
    return row["schedule"] or ("not known" if elsewhere else None)
