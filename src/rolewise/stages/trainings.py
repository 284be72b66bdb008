"""What a run consists of: its searches, its final trainings, and what its schedules are called."""

from dataclasses import dataclass

from rolewise._roles import A_S, A_T, STUDENT, TEACHER
from rolewise.config import Config
from rolewise.runs import layout


@dataclass(frozen=True)
class Training:
    """One final training of a run: who learns, under which schedule, with or without the teacher."""

    key: str
    title: str
    role: str
    schedule: str | None  # A_T, A_S, or None: crop and flip alone
    kd: bool
    baseline: bool = False

    @property
    def file(self) -> str:
        """Where its network is kept in the run directory."""
        return layout.network_file(self.key, baseline=self.baseline)

    @property
    def stage(self) -> str:
        """Its name among the stages of the run."""
        return layout.train_stage(self.key)


TRAININGS = {
    training.key: training
    for training in (
        Training(TEACHER, "Teacher after stage alpha", TEACHER, A_T, kd=False),
        Training(STUDENT, "Student after stage beta", STUDENT, A_S, kd=True),
        Training(
            "student-plain", "Student without KD, without schedule", STUDENT, None, kd=False, baseline=True
        ),
        Training("student-kd", "Student with KD only", STUDENT, None, kd=True, baseline=True),
        Training("student-a-t", "Student with KD, teacher's schedule", STUDENT, A_T, kd=True, baseline=True),
    )
}


def teacher_given(config: Config) -> bool:
    """Whether the teacher was trained elsewhere: its file or its weights are named."""
    return config.teacher.file is not None or config.teacher.weights is not None


def searches(config: Config, role: str) -> bool:
    """Whether a whole run searches the role's schedule: none is named, and no teacher that was trained elsewhere."""
    return config.role(role).schedule is None and not (role == TEACHER and teacher_given(config))


def has_a_t(config: Config) -> bool:
    """Whether a whole run has a schedule of the teacher's, searched or named."""
    return searches(config, TEACHER) or config.teacher.schedule not in (None, "none")
