"""The paper's two stages and the baselines, one after the other, on a pipeline."""

from typing import Any

from rolewise._roles import STUDENT, TEACHER
from rolewise.augment import Schedule
from rolewise.progress import Step
from rolewise.runs import layout
from rolewise.stages import build
from rolewise.stages.final import take_teacher, train_final
from rolewise.stages.pipeline import Pipeline
from rolewise.stages.trainings import (
    TRAININGS,
    Training,
    further_training,
    searches,
    teacher_given,
    wanted_baselines,
)


def search_role(pipeline: Pipeline, role: str) -> Schedule:
    """The search of one role's schedule; the student's takes a teacher that was trained elsewhere, if one is named."""
    _take_named_teacher(pipeline, role)
    return pipeline.search(role)


def train_role(
    pipeline: Pipeline, role: str, *, name: str | None = None, schedule: str | None = None
) -> None:
    """The final training of one role; the student's takes a teacher that was trained elsewhere, if one is named.

    Args:
        pipeline: the run.
        role: "teacher" or "student".
        name: makes it a further row of the results, with files of its own.
        schedule: schedule of the further row: "none", "trivialaugment", "randaugment", or a file.

    Raises:
        InputError: one of `name` and `schedule` without the other, or a name that is taken.
    """
    training = TRAININGS[role] if name is None else further_training(name, role, schedule)
    with pipeline.rank_zero_first():
        _take_named_teacher(pipeline, role)
    train_final(pipeline, training)


def _take_named_teacher(pipeline: Pipeline, role: str) -> None:
    if role == STUDENT and teacher_given(pipeline.config):
        take_teacher(pipeline)


def stage_alpha(pipeline: Pipeline) -> None:
    """Search A_T for the teacher, train the teacher under it (or take a teacher that was trained elsewhere)."""
    if teacher_given(pipeline.config):
        take_teacher(pipeline)
        return
    if searches(pipeline.config, TEACHER):
        pipeline.search(TEACHER)
    train_final(pipeline, TRAININGS[TEACHER])


def stage_beta(pipeline: Pipeline) -> None:
    """Search the student's own A_S with the fixed teacher, train the student under it."""
    if searches(pipeline.config, STUDENT):
        pipeline.search(STUDENT)
    train_final(pipeline, TRAININGS[STUDENT])


def baselines(pipeline: Pipeline) -> None:
    """The trainings that the result is compared with, as the settings name them; they see the same batches."""
    searched = pipeline.run.file(layout.schedule_file(TEACHER)).exists()
    for training in wanted_baselines(pipeline.config, searched=searched):
        train_final(pipeline, training)


def planned(pipeline: Pipeline) -> list[Step]:
    """All stages of a whole run, in their order, with their length in training images."""
    config, run, data = pipeline.config, pipeline.run, pipeline.data

    def step(stage: str, images: int) -> Step:
        return Step(stage, images, run.done(stage))

    def search_step(role: str) -> list[Step]:
        if not searches(config, role):
            return []
        size = config.data.search_train or build.load_searched(config, role, data).search_sizes[0]
        return [step(layout.search_stage(role), config.search.population * config.search.epochs * size)]

    def training_step(training: Training) -> Step:
        return step(training.stage, config.role(training.role).train.epochs * len(data.train))

    steps = search_step(TEACHER)
    if not teacher_given(config):
        steps.append(training_step(TRAININGS[TEACHER]))
    loss = build.new_loss(config)
    if loss is not None and not loss.prepared:
        steps.append(step(layout.PREPARE, config.kd.prepare_epochs * len(data.train)))
    searched = searches(config, TEACHER) or run.file(layout.schedule_file(TEACHER)).exists()
    students = (TRAININGS[STUDENT], *wanted_baselines(config, searched=searched))
    return [*steps, *search_step(STUDENT), *map(training_step, students)]


def run_all(pipeline: Pipeline) -> dict[str, Any]:
    """Both stages and, unless switched off, the baselines; returns the results."""
    pipeline.progress.plan(planned(pipeline))
    stage_alpha(pipeline)
    stage_beta(pipeline)
    baselines(pipeline)
    return pipeline.results()
