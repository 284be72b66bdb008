"""Leading eigenvectors of batches of positive semi-definite matrices, and the solves that their gradients need.

Two ways, one interface (`choose`, then `solve`). `Exact` takes power iteration where a certificate proves its
answer and a full `eigh` where none does, so it equals `eigh` on every matrix; it looks at the data from the host.
`Products` is subspace iteration from batched matrix products alone: no per-matrix loop, no wait for the device,
so a CUDA graph can hold it.

All matrices have trace 1 (or are zero), so that every tolerance below is relative to the trace.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# A direction whose eigenvalue is below this part of the trace is rounding error, not a direction of the map: the
# null space of a rank-deficient map is as arbitrary as the library that returns it.
RANK_FLOOR = 1e-5
# Where two eigenvalues are equal the derivative does not exist; 1 / gap becomes gap / (gap^2 + GAP_FLOOR w_1^2).
GAP_FLOOR = 1e-12
# Power iteration looks at its residual every few steps, and gives up after some looks.
STEPS_PER_CHECK = 12
MOST_CHECKS = 16
STEPS_PER_LENGTH = 3  # a trace of 1 does not shrink a vector out of the range of float32 in so few steps
# Squared cosines with orthonormal vectors sum to at most 1: above one half, by more than rounding, no other is larger.
MAJORITY = 0.5001
# Steps of the iteration that solves a system, before a factorization takes over.
MOST_CORRECTIONS = 24


class Choice(NamedTuple):
    """One eigenvector per matrix, and how it lies to the probe."""

    vector: Float[Tensor, "n m"]
    value: Float[Tensor, " n"]
    cosine: Float[Tensor, " n"]


class Spectrum(NamedTuple):
    """Eigenvalues, descending, and eigenvectors in columns; all of them, or the leading ones."""

    values: Float[Tensor, "n r"]
    vectors: Float[Tensor, "n m r"]

    def choose(self, probe: Float[Tensor, "n m"], candidates: int, wide: Bool[Tensor, " n"]) -> Choice:
        """The one of the leading `candidates` with the largest |cosine|; the earlier one where two are equal."""
        values, vectors = self.values[:, :candidates], self.vectors[:, :, :candidates]
        cosines = torch.bmm(probe.unsqueeze(1), vectors).squeeze(1)
        cosines = torch.where(wide.unsqueeze(1), cosines * values.clamp_min(RANK_FLOOR).rsqrt(), cosines)
        cosines = cosines.masked_fill(values <= RANK_FLOOR, 0)
        best = cosines.abs().argmax(1, keepdim=True)
        vector = vectors.gather(2, best.unsqueeze(1).expand(-1, vectors.shape[1], 1)).squeeze(2)
        return Choice(vector, values.gather(1, best).squeeze(1), cosines.gather(1, best).squeeze(1))

    def inverse_gaps(self, value: Float[Tensor, " n"]) -> Float[Tensor, "n r"]:
        """1 / (value - w_i), bounded where the gap closes, 0 for the chosen vector itself."""
        gaps = value.unsqueeze(1) - self.values
        return gaps / (gaps.square() + GAP_FLOOR * self.values[:, :1].square()).clamp_min(
            torch.finfo(gaps.dtype).tiny
        )

    def solve(self, value: Float[Tensor, " n"], rhs: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """(value - G)^+ rhs within the span of the vectors."""
        parts = torch.bmm(rhs.unsqueeze(1), self.vectors).squeeze(1) * self.inverse_gaps(value)
        return torch.bmm(self.vectors, parts.unsqueeze(2)).squeeze(2)

    def inverse(self, rhs: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """G^+ rhs, within the rank of G."""
        inverse = torch.where(self.values > RANK_FLOOR, self.values.clamp_min(RANK_FLOOR).reciprocal(), 0)
        parts = torch.bmm(rhs.unsqueeze(1), self.vectors).squeeze(1) * inverse
        return torch.bmm(self.vectors, parts.unsqueeze(2)).squeeze(2)


def full_spectrum(gram: Float[Tensor, "n m m"]) -> Spectrum:
    """All eigenvalues and eigenvectors, from LAPACK (its order is ascending)."""
    values, vectors = torch.linalg.eigh(gram)
    return Spectrum(values.flip(1).clamp_min(0), vectors.flip(2))


def power_iteration(
    gram: Float[Tensor, "n m m"],
) -> tuple[Float[Tensor, "n m"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The leading eigenvector, its eigenvalue, and where both are certain.

    Certain: the residual is at rounding level, and w^2 is more than half of the sum of all squared eigenvalues (the
    squared Frobenius norm). No other can then be as large, so this is the leading one whatever the start was.
    """
    vector = gram.sum(2)  # a start with a share in the leading vector of every non-negative matrix
    value, certain = torch.zeros_like(vector[:, 0]), torch.zeros_like(vector[:, 0], dtype=torch.bool)
    majority = 0.6 * torch.linalg.vector_norm(gram.flatten(1), dim=1).square()
    todo = torch.arange(len(gram), device=gram.device)
    for _ in range(MOST_CHECKS):
        part = gram if len(todo) == len(gram) else gram[todo]
        at, height, residual = _power_steps(part, vector[todo])
        leading = height.square() > majority[todo]
        settled = residual <= 4 * torch.finfo(gram.dtype).eps
        vector[todo], value[todo], certain[todo] = at, height, settled & leading
        todo = todo[leading & ~settled]
        if not len(todo):
            break
    return vector, value, certain


def _power_steps(
    gram: Float[Tensor, "n m m"], vector: Float[Tensor, "n m"]
) -> tuple[Float[Tensor, "n m"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Some steps, then the vector, its Rayleigh quotient, and the length of the residual.

    The vector is a row in a product with a symmetric matrix: several times as fast on a CPU as a column, and as a
    squaring of the matrix, which would save steps.
    """
    tiny = torch.finfo(gram.dtype).tiny
    row = vector.unsqueeze(1)
    for step in range(STEPS_PER_CHECK):
        row = torch.bmm(row, gram)
        if step % STEPS_PER_LENGTH == 0:
            row = row / torch.linalg.vector_norm(row, dim=2, keepdim=True).clamp_min(tiny)
    row = row / torch.linalg.vector_norm(row, dim=2, keepdim=True).clamp_min(tiny)
    vector, image = row.squeeze(1), torch.bmm(row, gram).squeeze(1)
    value = (image * vector).sum(1)
    return vector, value, torch.linalg.vector_norm(image - value.unsqueeze(1) * vector, dim=1)


class Exact:
    """Equals a full `eigh` of every matrix, without computing it where the leading vector is certain.

    Args:
        student, teacher: Gram matrices `(n, m, m)` per layer, trace 1 or zero; `m` may differ between layers.
        certified: False takes the full `eigh` for all.
    """

    def __init__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, certified: bool = True
    ) -> None:
        self._student = [_ExactLayer(gram, certified) for gram in student]
        self._teacher = [_ExactLayer(gram, certified) for gram in teacher]

    def leading(self) -> list[Float[Tensor, "n _"]]:
        """The teacher's leading eigenvectors, in no particular sign; to be asked once, its matrices are let go."""
        layers, self._teacher = self._teacher, []
        return [layer.leading() for layer in layers]

    def choose(self, probes: Sequence[Tensor], wide: Sequence[bool], candidates: int) -> list[Choice]:
        """The student's eigenvectors, among the leading `candidates`, that lie closest to the probes.

        Args:
            probes: `(n, m)` per layer.
            wide: per layer, True for the cosine (probe . vector) / sqrt(value), False for (probe . vector).
        """
        layers = zip(self._student, probes, wide, strict=True)
        return [layer.choose(probe, candidates, is_wide) for layer, probe, is_wide in layers]

    def solve(self, rhs: Sequence[Tensor]) -> list[Float[Tensor, "n _"]]:
        """(w - G)^+ rhs for the chosen pairs (w, v): the derivative of v within these spaces."""
        return [layer.solve(right) for layer, right in zip(self._student, rhs, strict=True)]

    def row_space(self, rhs: Sequence[Tensor]) -> list[Float[Tensor, "n _"]]:
        """G^+ rhs; needs `certified=False`."""
        return [layer.spectrum.inverse(right) for layer, right in zip(self._student, rhs, strict=True)]


class _ExactLayer:
    def __init__(self, gram: Float[Tensor, "n m m"], certified: bool) -> None:
        self.gram, self.certified = gram, certified

    def leading(self) -> Float[Tensor, "n m"]:
        vector, _, sure = self._power()
        hard = (~sure).nonzero().squeeze(1)
        if len(hard):
            vector[hard] = full_spectrum(self.gram[hard]).vectors[:, :, 0]
        return vector

    def choose(self, probe: Float[Tensor, "n m"], candidates: int, wide: bool) -> Choice:
        vector, value, sure = self._power()
        cosine = (vector * probe).sum(1)
        if wide:
            cosine = cosine * value.clamp_min(RANK_FLOOR).rsqrt()
        sure = sure & (cosine.square() > MAJORITY)
        self.easy, self.hard = sure.nonzero().squeeze(1), (~sure).nonzero().squeeze(1)
        if len(self.hard):
            self.spectrum = full_spectrum(self.gram[self.hard])
            other = self.spectrum.choose(
                probe[self.hard], candidates, torch.full_like(self.hard, wide).bool()
            )
            vector[self.hard], value[self.hard], cosine[self.hard] = other
        self.chosen = Choice(vector, value, cosine)
        return self.chosen

    def solve(self, rhs: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        vector, value = self.chosen.vector, self.chosen.value
        if not len(self.hard):
            return _definite_solve(self.gram, vector, value, rhs)
        result = torch.empty_like(rhs)
        easy, hard = self.easy, self.hard
        result[easy] = _definite_solve(self.gram[easy], vector[easy], value[easy], rhs[easy])
        result[hard] = self.spectrum.solve(value[hard], rhs[hard])
        return result

    def _power(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.certified:
            return power_iteration(self.gram)
        zeros = torch.zeros_like(self.gram[:, :, 0])
        return zeros, zeros[:, 0].clone(), torch.zeros_like(zeros[:, 0], dtype=torch.bool)


def _definite_solve(gram: Tensor, vector: Tensor, value: Tensor, rhs: Tensor) -> Tensor:
    """(w - G)^+ rhs where w is the leading eigenvalue, far from the others.

    The sum of (G / w)^k rhs / w, orthogonal to the vector, shrinks with every term by the ratio of the second
    eigenvalue to w or faster; where it is too slow, Cholesky's factor solves the system.
    """
    rhs = rhs - (rhs * vector).sum(1, keepdim=True) * vector
    small = 2 * torch.finfo(rhs.dtype).eps * torch.linalg.vector_norm(rhs, dim=1)
    inverse = value.reciprocal().unsqueeze(1)
    term = rhs * inverse
    total = term
    for step in range(1, MOST_CORRECTIONS + 1):
        term = torch.bmm(term.unsqueeze(1), gram).squeeze(1) * inverse
        total = total + term
        if step % STEPS_PER_LENGTH == 0:
            # Rounding errors along the vector would stay: their factor is 1.
            term = term - (term * vector).sum(1, keepdim=True) * vector
            slow = torch.linalg.vector_norm(term, dim=1) * value > small
            if not slow.any():
                return total - (total * vector).sum(1, keepdim=True) * vector
    slow = slow.nonzero().squeeze(1)
    total[slow] = _factored_solve(gram[slow], vector[slow], value[slow], rhs[slow])
    return total


def _factored_solve(gram: Tensor, vector: Tensor, value: Tensor, rhs: Tensor) -> Tensor:
    """`_definite_solve` by Cholesky's factor of w - G + w v v^T, which is positive definite."""
    scale = value[:, None, None]
    system = torch.baddbmm(-gram, scale * vector.unsqueeze(2), vector.unsqueeze(1))
    system.diagonal(dim1=1, dim2=2).add_(value.unsqueeze(1))
    factor, _ = torch.linalg.cholesky_ex(system)
    return torch.cholesky_solve(rhs.unsqueeze(2), factor).squeeze(2)
