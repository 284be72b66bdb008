"""The paper's two stages and the baselines, one after the other, on a pipeline."""

from typing import Any

from rolewise._roles import A_T, STUDENT, TEACHER
from rolewise.augment import Schedule
from rolewise.runs import layout
from rolewise.stages.pipeline import Pipeline
from rolewise.stages.trainings import TRAININGS, has_a_t, searches, teacher_given


def search_role(pipeline: Pipeline, role: str) -> Schedule:
    """The search of one role's schedule; the student's takes a teacher that was trained elsewhere, if one is named."""
    _take_named_teacher(pipeline, role)
    return pipeline.search(role)


def train_role(pipeline: Pipeline, role: str) -> None:
    """The final training of one role; the student's takes a teacher that was trained elsewhere, if one is named."""
    with pipeline.in_turn():
        _take_named_teacher(pipeline, role)
    pipeline.train(role)


def _take_named_teacher(pipeline: Pipeline, role: str) -> None:
    if role == STUDENT and teacher_given(pipeline.config):
        pipeline.take_teacher()


def stage_alpha(pipeline: Pipeline) -> None:
    """Search A_T for the teacher, train the teacher under it (or take a teacher that was trained elsewhere)."""
    if teacher_given(pipeline.config):
        pipeline.take_teacher()
        return
    if searches(pipeline.config, TEACHER):
        pipeline.search(TEACHER)
    pipeline.train(TEACHER)


def stage_beta(pipeline: Pipeline) -> None:
    """Search the student's own A_S with the fixed teacher, train the student under it."""
    if searches(pipeline.config, STUDENT):
        pipeline.search(STUDENT)
    pipeline.train(STUDENT)


def baselines(pipeline: Pipeline) -> None:
    """The students that the result is compared with; all start from the teacher's weights and see the same batches."""
    for training in TRAININGS.values():
        known = has_a_t(pipeline.config) or pipeline.run.file(layout.schedule_file(TEACHER)).exists()
        if training.baseline and (training.schedule != A_T or known):
            pipeline.train(training.key)


def run_all(pipeline: Pipeline) -> dict[str, Any]:
    """Both stages and, unless switched off, the baselines; returns the results."""
    stage_alpha(pipeline)
    stage_beta(pipeline)
    if pipeline.config.baselines:
        baselines(pipeline)
    return pipeline.results()
