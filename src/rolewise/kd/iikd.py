"""II-KD: intra-relations (RKD) and inter-relations (MHGD, KD-SVD) together."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rolewise.kd.base import KDLoss, Outputs, TrainingImages
from rolewise.kd.kdsvd import kernel_loss
from rolewise.kd.mhgd import MHGD
from rolewise.kd.rkd import RKD
from rolewise.kd.spectral import aligned_vectors


class IIKD(KDLoss):
    """Relations among samples and relations between layers follow the teacher: MHGD + RKD + KD-SVD.

    Source: eq. 9 of the role-wise paper, equal coefficients. MHGD and KD-SVD share one decomposition per network and
    step; the heads are MHGD's, see there for `prepare` and `restore`.

    Args:
        heads, trained: see `MHGD`.
        method, doubled_gradient: see `KDSVD`.
        norm_eps, norm_momentum: see `MHGD`.
    Shape:
        logits (n, k), n >= 2, and at least 2 feature maps (n, c, h, w); c must agree between the networks; returns ().
    Raises:
        InputError: inputs that `MHGD`, `RKD` or `KDSVD` refuse.
    """

    weight = 0.4
    decay = True
    clip = True

    def __init__(
        self,
        taps: Sequence[str] | None = None,
        teacher_taps: Sequence[str] | None = None,
        *,
        heads: int = 8,
        trained: bool = True,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        method: str | None = None,
        doubled_gradient: bool = False,
    ) -> None:
        super().__init__(taps, teacher_taps)
        self.rkd = RKD()
        self.mhgd = MHGD(
            taps,
            teacher_taps,
            heads=heads,
            trained=trained,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
            method=method,
            doubled_gradient=doubled_gradient,
        )

    @property
    def prepared(self) -> bool:
        return self.mhgd.prepared

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        self.mhgd.build(student, teacher, generator=generator, images=images)

    def prepare(self, teacher: nn.Module, split: TrainingImages, *, epochs: int = 40, seed: int = 0) -> None:
        """Trains MHGD's heads on the teacher, see there."""
        self.mhgd.prepare(teacher, split, epochs=epochs, seed=seed)

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        vectors = aligned_vectors(student, teacher, self.mhgd.settings)
        return self.mhgd.from_vectors(vectors) + self.rkd.forward(student, teacher) + kernel_loss(vectors)

    @classmethod
    def release(cls, **arguments: Any) -> "IIKD":
        """With the heads and the gradient of the authors' code; slow on a GPU, see `MHGD.release`."""
        given = {
            "heads": 4,
            "trained": False,
            "norm_eps": 1e-3,
            "norm_momentum": 0.01,
            "doubled_gradient": True,
        }
        return cls(**{**given, **arguments})
