"""DIST: distillation from a stronger teacher."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_batch, check_classes, check_positive
from rolewise.kd.layers import centered_unit


class DIST(KDLoss):
    """Predictions correlate with the teacher's, over the classes of an image and over the images of a class.

    Source: Huang et al., NeurIPS 2022, section 3, for the softened probabilities Y (n x k):

        L = beta mean_i (1 - corr(Y_S[i, :], Y_T[i, :])) + gamma mean_j (1 - corr(Y_S[:, j], Y_T[:, j]))

    with Pearson's correlation. The authors' later code multiplies by tau^2, the paper does not; at the default
    tau 1 there is no difference. Weight 2 with beta = gamma = 1 is the paper's beta = gamma = 2 for
    classification, and torchdistill's setting.

    For vectors u, v of length 1, 1 - u . v = |u - v|^2 / 2, which is exact where both agree. A constant vector
    correlates with nothing: it counts 1 and takes no gradient.

    Layers: logits only.

    Args:
        beta, gamma: factors of the parts, > 0, no unit.
        tau: temperature, > 0, no unit.
    Shape:
        logits (n, k), n >= 2; returns ().
    Raises:
        InputError: student and teacher do not fit.
    """

    weight = 2.0
    needs_features = False

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        beta: float = 1.0,
        gamma: float = 1.0,
        tau: float = 1.0,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.beta = check_positive("beta", beta)
        self.gamma = check_positive("gamma", gamma)
        self.tau = check_positive("tau", tau)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_classes("DIST", student, teacher)
        check_batch("DIST", student)
        s, t = (student.logits / self.tau).softmax(1), (teacher.logits / self.tau).softmax(1)
        return self.beta * _distance(s, t, dim=1) + self.gamma * _distance(s, t, dim=0)


def _distance(student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"], dim: int) -> Float[Tensor, ""]:
    """Mean of 1 - Pearson's correlation along `dim`."""
    u, u_alive = centered_unit(student, dim)
    v, v_alive = centered_unit(teacher, dim)
    absent = 1 - (u_alive.to(u.dtype) + v_alive.to(v.dtype)) / 2
    return (0.5 * (u - v).square().sum(dim, keepdim=True) + absent).mean()
