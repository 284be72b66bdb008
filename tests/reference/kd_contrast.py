"""Contrastive representation distillation with its memory, one image and one negative at a time, in float64."""

import torch
from kd_layers import direction
from torch import Tensor

_MASK = (1 << 64) - 1


def mix(x: int) -> int:
    """SplitMix64's output for the state x, in whole numbers modulo 2^64."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


class Contrast:
    """What the loss remembers between steps.

    Args:
        student, teacher: initial rows of the banks.
        seed: of the draws.
        negatives: m.
        temperature, momentum: as in the paper.
    """

    def __init__(
        self, student: Tensor, teacher: Tensor, seed: int, negatives: int, temperature: float, momentum: float
    ) -> None:
        self.banks = [[list(row) for row in bank.double()] for bank in (student, teacher)]
        self.seed, self.step = seed, 0
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum
        self.row_of: dict[int, int] = {}
        self.class_of: dict[int, int] = {}
        self.normalizers: list[Tensor] = []

    def negatives_of(self, place: int, row: int) -> list[int]:
        """m rows of other classes; draw j is floor(u * count) of the rows in order of (class, row)."""
        allowed = sorted((c, r) for r, c in self.class_of.items() if c != self.class_of[row])
        drawn = []
        for j in range(self.negatives):
            bits = mix((mix((mix((self.seed + self.step) & _MASK) + place) & _MASK) + j) & _MASK) >> 33
            drawn.append(allowed[bits * len(allowed) >> 31][1])
        return drawn

    def __call__(self, student: Tensor, teacher: Tensor, ids: list[int], labels: list[int]) -> Tensor:
        """The loss of one batch of embeddings (n, d), which are then remembered."""
        for image, label in zip(ids, labels, strict=True):
            row = self.row_of.setdefault(image, len(self.row_of))
            self.class_of[row] = label
        rows = [self.row_of[image] for image in ids]
        chosen = [self.negatives_of(place, row) for place, row in enumerate(rows)]
        embeddings = [[direction(list(row)) for row in x] for x in (student, teacher)]
        total = torch.zeros((), dtype=torch.float64)
        for own, other in ((0, 1), (1, 0)):
            anchors, bank = embeddings[own], self.banks[other]
            scores = [
                [self._score(anchor, bank[r]) for r in (row, *negatives)]
                for anchor, row, negatives in zip(anchors, rows, chosen, strict=True)
            ]
            if self.step == 0:
                flat = [score.detach() for line in scores for score in line]
                self.normalizers.append(sum(flat) / len(flat))
            z = self.normalizers[own] * self.negatives
            for positive, *others in scores:
                total = total - torch.log(positive / (positive + z)) / len(ids)
                total = total - sum(torch.log(z / (score + z)) for score in others) / len(ids)
        for bank, x in zip(self.banks, embeddings, strict=True):
            for row, new in zip(rows, x, strict=True):
                mixed = [
                    self.momentum * a + (1 - self.momentum) * b for a, b in zip(bank[row], new, strict=True)
                ]
                bank[row] = [value.detach() for value in direction(mixed)]
        self.step += 1
        return total

    def _score(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        return torch.exp(sum(x * y for x, y in zip(a, b, strict=True)) / self.temperature)
