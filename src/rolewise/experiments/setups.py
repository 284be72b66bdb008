"""What one training of an experiment is: networks, bits, loss and schedule, without seed or lengths."""

from dataclasses import dataclass, replace
from typing import Literal

from rolewise.bits import FULL

Start = Literal["teacher", "random"]


def bits_name(bits: int) -> str:
    """Weights and activations of so many bits, as ids have it: such as "w4a4", or "fp32"."""
    return "fp32" if bits == FULL else f"w{bits}a{bits}"


@dataclass(frozen=True)
class Setup:
    """One final training, with everything that it depends on.

    Args:
        data: name of the data set.
        network: the teacher's architecture.
        student: the student's architecture; None is the teacher's.
        role: "teacher" trains `network` itself at full precision; "student" the low-bit or shallow network.
        bits: bits of weights and activations; 32 is full precision.
        loss: distillation loss, a name of `rolewise.kd.LOSSES`, or "none".
        schedule: a word of `rolewise.experiments.arms.ARMS`.
        start: source of a student's initial weights.
        teacher_schedule: schedule of the teacher that a student learns or starts from, and of A_T.
        searched_network: architecture whose A_T is meant, where it is not `network`.
        shared: part of the study's name where settings differ from the tables'; "" for the tables.
    """

    data: str
    network: str
    student: str | None = None
    role: Literal["teacher", "student"] = "student"
    bits: int = FULL
    loss: str = "none"
    schedule: str = "none"
    start: Start = "random"
    teacher_schedule: str = "a_t"
    searched_network: str | None = None
    shared: str = ""

    @property
    def needs_teacher(self) -> bool:
        """Whether a trained teacher is compared with or started from."""
        return self.role == "student" and (self.loss != "none" or self.start == "teacher")

    @property
    def teacher(self) -> "Setup":
        """The training of the teacher that this student has."""
        return Setup(
            self.data, self.network, role="teacher", schedule=self.teacher_schedule, shared=self.shared
        )

    @property
    def bits_name(self) -> str:
        """Such as "w4a4", or "fp32"."""
        return bits_name(self.bits)

    @property
    def subject(self) -> str:
        """What is searched for or trained, without the schedule: the stem of file names."""
        parts = [self.shared, self.data, self.network]
        if self.role == "teacher":
            return "-".join([part for part in parts if part] + ["teacher"])
        parts += [self.student or "", self.bits_name, "no-kd" if self.loss == "none" else self.loss]
        if self.needs_teacher and self.teacher_schedule != "a_t":
            parts.append(f"teacher-{self.teacher_schedule}")
        if not (self.start == "teacher" and self.loss != "none"):
            parts.append(f"from-{self.start}")
        return "-".join(part for part in parts if part)

    @property
    def name(self) -> str:
        """Name of this training, unlike that of any other."""
        other = f"-{self.searched_network}" if self.searched_network else ""
        return f"train-{self.subject}-{self.schedule}{other}"

    def under(self, schedule: str) -> "Setup":
        """The same training under another schedule: an arm of the same experiment."""
        return replace(self, schedule=schedule)


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Args:
        table: "table1" to "table4", or "study".
        row: title of the row, as the paper has it.
        column: title of the column.
        setup: the training that gives the number.
        paper: the paper's number in percent; None where the paper has none.
    """

    table: str
    row: str
    column: str
    setup: Setup
    paper: float | None = None

    @property
    def id(self) -> str:
        """Such as "table2/cifar100/resnet18/w4a4/ii-kd/a_s"."""
        one = self.setup
        network = one.network if one.student is None else f"{one.network}-{one.student}"
        if one.role == "teacher":
            kind = "teacher" if self.table == "study" else "no-kd"
        else:
            kind = one.loss if one.loss != "none" else ("init" if one.start == "teacher" else "no-kd")
        return "/".join((self.table, one.data, network, one.bits_name, kind, one.schedule))
