"""The KD terms in plain PyTorch, as published: full SVDs, RBF kernels as channels x channels images."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from rolewise import kd
from rolewise.kd import Outputs
from rolewise.kd.spectral import Aligned


def plain_vectors(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Aligned leading right singular vectors, from two full SVDs."""
    target = torch.linalg.svd(teacher.flatten(2).mT, full_matrices=False)[2][:, 0]
    target = torch.where(target.sum(1, keepdim=True) < 0, -target, target)
    candidates = torch.linalg.svd(student.flatten(2).mT, full_matrices=False)[2][:, :4]
    cosines = (candidates * target.unsqueeze(1)).sum(2)
    best = cosines.detach().abs().argmax(1)
    rows = torch.arange(len(best))
    return candidates[rows, best] * cosines[rows, best].detach().sign().unsqueeze(1), target


def plain_kernels(layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The squared differences of the RBF kernels, as images of channels x channels."""
    total = layers[0][0].new_zeros(())
    for (s_0, t_0), (s_1, t_1) in pairwise(layers):
        student = torch.exp(-((s_1.unsqueeze(2) - s_0.unsqueeze(1)) ** 2) / 8)
        teacher = torch.exp(-((t_1.unsqueeze(2) - t_0.unsqueeze(1)) ** 2) / 8)
        total = total + ((student - teacher) ** 2).sum()
    return total


def plain_kd_svd(student: Outputs, teacher: Outputs) -> Tensor:
    pairs = zip(student.features, teacher.features, strict=True)
    return plain_kernels([plain_vectors(s, t) for s, t in pairs])


def plain_ii_kd(heads: kd.MHGD) -> Callable[[Outputs, Outputs], Tensor]:
    """KD-SVD, MHGD (which decomposes again) and RKD, each in its plain form."""

    def loss(student: Outputs, teacher: Outputs) -> Tensor:
        pairs = list(zip(student.features, teacher.features, strict=True))
        layers = [plain_vectors(s, t) for s, t in pairs]
        alive = tuple(torch.ones(len(student.logits), dtype=torch.bool) for _ in layers)
        vectors = Aligned(tuple(s for s, _ in layers), tuple(t for _, t in layers), alive)
        return plain_kd_svd(student, teacher) + heads.from_vectors(vectors) + kd.RKD()(student, teacher)

    return loss
