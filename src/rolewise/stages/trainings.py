"""What a run consists of: its searches, its final trainings, and what its schedules are called."""

from dataclasses import dataclass

from rolewise.config import Config

SCHEDULES = {"teacher": "A_T", "student": "A_S"}


@dataclass(frozen=True)
class Training:
    """One final training of a run: who learns, under which schedule, with or without the teacher."""

    key: str
    title: str
    role: str
    schedule: str | None  # "A_T", "A_S", or None: crop and flip alone
    kd: bool
    baseline: bool = False

    @property
    def file(self) -> str:
        """Where its network is kept in the run directory."""
        return f"baselines/{self.key}.safetensors" if self.baseline else f"{self.key}.safetensors"


TRAININGS = {
    training.key: training
    for training in (
        Training("teacher", "Teacher after stage alpha", "teacher", "A_T", kd=False),
        Training("student", "Student after stage beta", "student", "A_S", kd=True),
        Training(
            "student-plain", "Student without KD, without schedule", "student", None, kd=False, baseline=True
        ),
        Training("student-kd", "Student with KD only", "student", None, kd=True, baseline=True),
        Training(
            "student-a-t", "Student with KD, teacher's schedule", "student", "A_T", kd=True, baseline=True
        ),
    )
}


def searches(config: Config, role: str) -> bool:
    """Whether a whole run searches the role's schedule: none is named, and no teacher that was trained elsewhere."""
    return config.role(role).schedule is None and not (role == "teacher" and config.teacher.file)


def has_a_t(config: Config) -> bool:
    """Whether a whole run has a schedule of the teacher's, searched or named."""
    return searches(config, "teacher") or config.teacher.schedule not in (None, "none")
