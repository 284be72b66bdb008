"""Logit standardization."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_classes, check_positive
from rolewise.kd.layers import centered_unit


class LogitStandardization(KDLoss):
    """Soft labels of standardized logits: the student follows the teacher's ranking, not its scale.

    Source: Sun et al., CVPR 2024, section 3.3 and algorithm 1, with T^2 and the values of the authors' code (T 2,
    weight 9):

        z' = (z - mean(z)) / std(z),  L = T^2 mean_images KL(softmax(z'_T / T) || softmax(z'_S / T))

    The deviation is the one with k - 1 (`unbiased=True`), as that code computes it; the paper divides by k.
    Where the code weighs the task loss by 0.1, it counts fully here, as beside every loss of this group: give
    `Distill(task_weight=0.1)` for the other. A constant row of logits standardizes to 0 and takes no gradient.

    Layers: logits only.

    Args:
        temperature: T, > 0, no unit.
        unbiased: True divides by k - 1 in std, False by k.
    Shape:
        logits (n, k), k >= 2; returns ().
    Raises:
        InputError: student and teacher do not fit, or there is one class only.
    """

    weight = 9.0
    needs_features = False

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        temperature: float = 2.0,
        unbiased: bool = True,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.temperature = check_positive("temperature", temperature)
        self.unbiased = unbiased

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_classes("LogitStandardization", student, teacher)
        log_student = F.log_softmax(self._standardized(student.logits) / self.temperature, dim=1)
        log_teacher = F.log_softmax(self._standardized(teacher.logits) / self.temperature, dim=1)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(1).mean()
        return self.temperature**2 * divergence

    def _standardized(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        direction, _ = centered_unit(logits, dim=1)
        classes = logits.shape[1]
        scale: float = (classes - 1 if self.unbiased else classes) ** 0.5
        return direction * scale
