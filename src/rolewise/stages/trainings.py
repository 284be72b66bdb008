"""What a run consists of: its searches, its final trainings, and how a row of results names one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rolewise._roles import A_S, A_T, STUDENT, TEACHER
from rolewise.bits import FULL
from rolewise.config import Config
from rolewise.errors import InputError
from rolewise.quant import quantization
from rolewise.runs import layout
from rolewise.runs.files import check_name
from rolewise.stages import schedules
from rolewise.stages.build import NO_LOSS
from rolewise.stages.schedules import Source


@dataclass(frozen=True)
class Training:
    """One final training of a run: who learns, from which weights, under which schedule, with or without the teacher.

    Args:
        key: its name in the run directory.
        role: "teacher" or "student".
        schedule: "A_T" or "A_S" is what the settings say for teacher or student, searched unless they name another;
            anything else is a name for `named_schedule`; None is random crop and flip alone.
        kd: True if the student also learns from the teacher.
        scratch: True if a student begins with random weights, whatever the settings say.
        baseline: True if the result is compared with it, rather than being the result.
    """

    key: str
    role: str
    schedule: str | None = None
    kd: bool = False
    scratch: bool = False
    baseline: bool = True

    @property
    def file(self) -> str:
        """Where its network is kept in the run directory."""
        return layout.network_file(self.key, baseline=self.baseline)

    @property
    def stage(self) -> str:
        """Its name among the stages of the run."""
        return layout.train_stage(self.key)

    def init(self, config: Config) -> str:
        """Which weights it begins with: "random", or "teacher"."""
        return "random" if self.role == TEACHER or self.scratch else config.student.init

    def loss(self, config: Config) -> str | None:
        """The distillation loss, as the settings name it; None for labels alone."""
        return config.kd.loss if self.kd and config.kd.loss != NO_LOSS else None

    def network(self, config: Config) -> str:
        """The network as tables name it: its name in `rolewise.networks.NETWORKS`, or file and name of own code."""
        own = None if self.role == TEACHER else config.student.network
        return Path(own or config.teacher.network).name

    def expected_title(self, config: Config) -> str:
        """Its title before its schedule is known, from the settings alone."""
        if self.schedule not in (A_T, A_S):
            return self.title(config, None if self.schedule is None else schedules.source_name(self.schedule))
        named = (config.teacher if self.schedule == A_T else config.student).schedule
        name = self.schedule if named is None else schedules.source_name(named)
        return self.title(config, name)

    def title(self, config: Config, schedule: str | None) -> str:
        """What was done, in one line that no other training of the run has.

        Args:
            config: the run's settings.
            schedule: the name of the schedule's source.
        """
        words = [f"{self.role.capitalize()} {self.network(config)}"]
        if self.role == STUDENT:
            words[0] += " from scratch" if self.init(config) == "random" else ""
            loss = self.loss(config)
            words.append("no KD" if loss is None else Path(loss).name)
        words.append(schedule or "no schedule")
        return ", ".join(words)

    def describe(
        self, config: Config, model: nn.Module, source: Source, *, taken: bool = False
    ) -> dict[str, Any]:
        """What a row of the result table says of the training, without its figures.

        Args:
            config: the run's settings.
            model: the trained network.
            source: its schedule.
            taken: True if it was trained elsewhere, and named by its file.
        """
        bits = quantization(model) or {"weight_bits": FULL, "act_bits": FULL, "method": None}
        file = Path(str(config.teacher.file or config.teacher.weights)).name
        return {
            "key": self.key,
            "name": f"Teacher from {file}" if taken else self.title(config, source.name),
            "role": self.role,
            "network": (_name_of(model) if taken else None) or self.network(config),
            "weight_bits": bits["weight_bits"],
            "act_bits": bits["act_bits"],
            "quantizer": bits["method"],
            "init": file if taken else self.init(config),
            "kd": self.loss(config),
            "schedule": source.name,
            "schedule_sha256": source.sha256,
            "no_operation": source.schedule is not None and source.idle,
            "seed": config.seed,
            "baseline": self.baseline,
        }


TRAININGS = {
    training.key: training
    for training in (
        Training(TEACHER, TEACHER, A_T, baseline=False),
        Training(STUDENT, STUDENT, A_S, kd=True, baseline=False),
        Training("teacher-plain", TEACHER),
        Training("student-plain", STUDENT),
        Training("student-scratch", STUDENT, scratch=True),
        Training("student-kd", STUDENT, kd=True),
        Training("student-a-t", STUDENT, A_T, kd=True),
    )
}


def _name_of(model: nn.Module) -> str | None:
    """The name of one of this package's networks; None for another."""
    about = getattr(model, "architecture", None)
    return about.get("name") if isinstance(about, Mapping) else None


def teacher_given(config: Config) -> bool:
    """Whether the teacher was trained elsewhere: its file or its weights are named."""
    return config.teacher.file is not None or config.teacher.weights is not None


def further_training(name: str, role: str, schedule: str | None) -> Training:
    """A control that is added to a run under a name of its own: the role's training under another schedule.

    Raises:
        InputError: no schedule, or what is none; a name that a training has already, or that no file can have.
    """
    if schedule is None:
        raise InputError("`--as` names a further training under another schedule: give `--schedule` too.")
    if name in TRAININGS:
        known = ", ".join(TRAININGS)
        raise InputError(f"`--as` {name} is a training of its own already: choose a name other than {known}.")
    if (averaged := layout.averaged_in(name)) is not None:
        raise InputError(
            f"`--as` {name} is the name of the averaged weights of {averaged}: choose one that does not end so."
        )
    schedules.named_schedule(schedule, 1)
    return Training(check_name(name), role, schedule, kd=role == STUDENT)


def searches(config: Config, role: str) -> bool:
    """Whether a whole run searches the role's schedule: none is named, and no teacher that was trained elsewhere."""
    return config.role(role).schedule is None and not (role == TEACHER and teacher_given(config))


def wanted_baselines(config: Config, *, searched: bool = False) -> list[Training]:
    """The baselines that a whole run trains.

    Args:
        config: the run's settings.
        searched: True if the run already holds a searched A_T, whatever the settings say.
    """
    has_a_t = searched or searches(config, TEACHER) or config.teacher.schedule not in (None, schedules.NONE)
    chosen = [TRAININGS[key] for key in config.baselines]
    return [
        training
        for training in chosen
        if (training.schedule != A_T or has_a_t) and not (training.role == TEACHER and teacher_given(config))
    ]
