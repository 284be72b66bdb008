"""Deep mutual learning: the divergences of the two networks' predictions, in both directions."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_logits


def mutual_loss(student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """1/2 [KL(p_T || p_S) + KL(p_S || p_T)] of the softmax at T = 1, batch mean of class sums.

    Symmetric; gradients reach whichever side has history, so that it serves joint training as well.
    The two sums share their factors: KL(p || q) + KL(q || p) = sum (p - q) (log p - log q).
    """
    p, q = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(1).mean()


class DML(KDLoss):
    """Student and teacher predict alike, measured in both directions; the teacher is fixed.

    Source: Zhang et al., CVPR 2018, in the symmetric form of the role-wise authors' code. The paper takes a fixed,
    pre-trained teacher for its baselines; the joint training of both networks is an objective, not a loss.

    Shape:
        logits (n, k); returns ().
    Raises:
        InputError: logits of other shapes.
    """

    decay = True
    needs_features = False

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_logits(student, teacher)
        return mutual_loss(student.logits, teacher.logits)
