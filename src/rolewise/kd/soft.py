"""Soft labels: the student's class probabilities follow the teacher's."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_logits, check_positive


def soft_label_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    temperature: float = 3.0,
    entropy: float = 1.0,
) -> Float[Tensor, ""]:
    """mean_i sum_k p_T (entropy * log p_T - log p_S), p = softmax(logits / temperature): KL(p_T || p_S) for entropy 1.

    Args:
        student, teacher: logits.
        temperature: > 0, no unit.
        entropy: factor of the teacher's own entropy: 1 gives the divergence, 0 the cross-entropy. It moves no
            gradient of the student.
    """
    target = F.log_softmax(teacher / temperature, dim=1)
    guess = F.log_softmax(student / temperature, dim=1)
    return (target.exp() * (entropy * target - guess)).sum(1).mean()


class SoftLabels(KDLoss):
    """The student's class probabilities follow the teacher's, softened by a temperature.

    Source: Hinton et al., 2014; eq. 3 of the role-wise paper. Recommended is the form of the authors' code: KL at
    T = 3 without Hinton's factor T^2, mixed as 0.7 task + 0.3 KD (the mixture belongs to `Distill`).

    Args:
        temperature: > 0, no unit.
        cross_entropy: eq. 3 to the letter: the teacher's entropy is not subtracted, so that the minimum is that
            entropy instead of 0. The gradient is the same.
        mixed: `task_weight` 0.7 and `weight` 0.3; False for 1 and 1 with the decay of lambda, as the paper states.
    Shape:
        logits (n, k); returns ().
    Raises:
        InputError: a temperature that is not positive, or logits of other shapes.
    """

    task_weight = 0.7
    weight = 0.3
    needs_features = False

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        temperature: float = 3.0,
        cross_entropy: bool = False,
        mixed: bool = True,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.temperature = check_positive("temperature", temperature)
        self._entropy = 0.0 if cross_entropy else 1.0
        if not mixed:
            self.task_weight, self.weight, self.decay = 1.0, 1.0, True

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_logits(student, teacher)
        return soft_label_loss(student.logits, teacher.logits, self.temperature, self._entropy)

    @classmethod
    def paper(cls, **arguments: Any) -> "SoftLabels":
        """Eq. 3: cross-entropy at T = 1, added with lambda = 1 that decays."""
        return cls(**{"temperature": 1.0, "cross_entropy": True, "mixed": False, **arguments})
