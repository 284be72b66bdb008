"""Decoupled knowledge distillation."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_classes, check_positive, labels_of


class DKD(KDLoss):
    """Soft labels in two parts: how sure the teacher is of the true class, and how it ranks the others.

    Source: Zhao et al., CVPR 2022, eq. 7 (b the two-class, p the softened probabilities, ^p those among the
    other classes), times T^2 as in the authors' code, with its CIFAR-100 values alpha 1, beta 8, T 4:

        L = T^2 mean_images [ alpha KL(b_T || b_S) + beta KL(^p_T || ^p_S) ],  b = (p_t, 1 - p_t)

    All in logarithms: where one class has all the probability, the authors' log(softmax) is infinite. Their
    warm-up of the weight over 20 epochs is not part of the loss.

    Layers: logits only. Reads `labels` of the student's outputs, else of the teacher's.

    Args:
        alpha, beta: factors of the parts, > 0, no unit.
        temperature: T, > 0, no unit.
    Shape:
        logits (n, k), k >= 2; returns ().
    Raises:
        InputError: student and teacher do not fit, labels are missing, or there is one class only.
    """

    weight = 1.0
    needs_features = False
    needs_labels = True

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.alpha = check_positive("alpha", alpha)
        self.beta = check_positive("beta", beta)
        self.temperature = check_positive("temperature", temperature)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_classes("DKD", student, teacher)
        labels = labels_of("DKD", student, teacher)
        others = torch.ones_like(student.logits, dtype=torch.bool).scatter(1, labels.unsqueeze(1), False)
        s_two, s_rest = _parts(student.logits / self.temperature, others)
        t_two, t_rest = _parts(teacher.logits / self.temperature, others)
        target = (t_two.exp() * (t_two - s_two)).sum(1)
        rest = (t_rest.masked_fill(~others, -torch.inf).exp() * (t_rest - s_rest)).sum(1)
        return self.temperature**2 * (self.alpha * target + self.beta * rest).mean()


def _parts(
    z: Float[Tensor, "n k"], others: Bool[Tensor, "n k"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n k"]]:
    """log (p_t, 1 - p_t), and log of the probabilities among the other classes (anything at the true class)."""
    # z minus that of the others, not log_softmax: the true class may be far above them.
    rest = z.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    true = z.masked_fill(others, 0).sum(1, keepdim=True)
    return F.log_softmax(torch.cat((true, rest), 1), dim=1), z - rest
