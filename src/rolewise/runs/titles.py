"""The titles of the stages of a run, for people."""

from rolewise._roles import STUDENT, TEACHER
from rolewise.runs import layout

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
