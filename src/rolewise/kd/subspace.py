"""Subspace iteration from batched matrix products alone, for devices where a loop over matrices is slow.

Every step has a fixed number of operations on fixed shapes, and none waits for the device.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rolewise.kd.eigen import RANK_FLOOR, Choice, Spectrum

# Real features have s_5 / s_4 up to 0.96: a block of the four that are wanted would not converge.
VECTORS = 12
# Products between one orthonormalization and the next. Few at first, while every column still holds the leading vector:
# w_1^k would drown the others in rounding.
PRODUCTS = (1, 1, 2, 4, 4)
SWEEPS = 2
# Of a column's square: float32 leaves 1e-14 of it to a column that lies in the span of the others.
SHIFT = 1e-12
CORRECTIONS = 8


class Products:
    """The interface of `eigen.Exact`; agrees with it to 1e-4 on real features.

    Args:
        student, teacher: Gram matrices `(n, m, m)` per layer, trace 1 or zero. All are decomposed together, padded
            with zeros to the largest `m`.
    """

    def __init__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        grams = [*student, *teacher]
        self._sizes = [gram.shape[1] for gram in grams]
        self._layers = len(student)
        self._images, self._widest = grams[0].shape[0], max(self._sizes)
        stack = torch.cat([_pad(gram, self._widest, 2) for gram in grams])
        spectrum = subspace_iteration(stack, _start(stack, self._sizes))
        rows = self._layers * self._images
        self._gram = stack[:rows]
        self._spectrum = Spectrum(spectrum.values[:rows], spectrum.vectors[:rows])
        self._leading = spectrum.vectors[rows:, :, 0]

    def leading(self) -> list[Float[Tensor, "n _"]]:
        """See `eigen.Exact.leading`."""
        parts = torch.split(self._leading, self._images)
        return [part[:, :size] for part, size in zip(parts, self._sizes[self._layers :], strict=True)]

    def choose(self, probes: Sequence[Tensor], wide: Sequence[bool], candidates: int) -> list[Choice]:
        """See `eigen.Exact.choose`."""
        is_wide = torch.cat(
            [torch.full_like(p[:, 0], w, dtype=torch.bool) for p, w in zip(probes, wide, strict=True)]
        )
        self._chosen = self._spectrum.choose(self._join(probes), candidates, is_wide)
        values, cosines = (torch.split(x, self._images) for x in (self._chosen.value, self._chosen.cosine))
        return [
            Choice(*parts) for parts in zip(self._split(self._chosen.vector), values, cosines, strict=True)
        ]

    def solve(self, rhs: Sequence[Tensor]) -> list[Float[Tensor, "n _"]]:
        """See `eigen.Exact.solve`. The span of the block is solved directly, what lies outside by iteration."""
        vector, value = self._chosen.vector, self._chosen.value.unsqueeze(1)
        vectors = self._spectrum.vectors
        outside = value.clamp_min(RANK_FLOOR).reciprocal()
        # (value - G)^-1 is 1 / gap on the block and about 1 / value outside, where G is small against value.
        weights = self._spectrum.inverse_gaps(self._chosen.value) - outside
        # The weights cancel `outside` along the chosen vector: once removed from the right side, it stays away.
        residual = _without(self._join(rhs), vector)
        result = torch.zeros_like(residual)
        for _ in range(CORRECTIONS):
            parts = torch.bmm(residual.unsqueeze(1), vectors).squeeze(1) * weights
            step = torch.baddbmm((outside * residual).unsqueeze(2), vectors, parts.unsqueeze(2))
            result = result + step.squeeze(2)
            rest = torch.addcmul(residual, value, step.squeeze(2), value=-1)
            residual = torch.baddbmm(rest.unsqueeze(2), self._gram, step).squeeze(2)
        return self._split(result)

    def _join(self, parts: Sequence[Tensor]) -> Float[Tensor, "n m"]:
        return torch.cat([_pad(part, self._widest, 1) for part in parts])

    def _split(self, stack: Float[Tensor, "n m"]) -> list[Tensor]:
        parts = torch.split(stack, self._images)
        return [part[:, :size] for part, size in zip(parts, self._sizes[: self._layers], strict=True)]


def _pad(x: Tensor, size: int, dims: int) -> Tensor:
    """`x` with zeros behind, so that its last `dims` dimensions have this size."""
    return F.pad(x, (0, size - x.shape[-1]) * dims)


def _without(x: Float[Tensor, "n m"], unit: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """The part of `x` that is orthogonal to a unit vector."""
    return x - (x * unit).sum(1, keepdim=True) * unit


def subspace_iteration(gram: Float[Tensor, "n m m"], start: Float[Tensor, "n m p"]) -> Spectrum:
    """The leading p eigenvalues and eigenvectors, descending; p is even."""
    block = start
    for products in PRODUCTS:
        for _ in range(products):
            block = torch.bmm(gram, block)
        block = _orthonormal(block)
    # Later passes make orthogonal what the first could not: columns of rounding errors alone.
    for _ in range(2):
        block = _orthonormal(block)
    small = torch.bmm(block.mT, torch.bmm(gram, block))
    values, rotation = jacobi(small)
    values, order = values.clamp_min(0).sort(dim=1, descending=True)
    rotation = rotation.gather(2, order.unsqueeze(1).expand_as(rotation))
    return Spectrum(values, torch.bmm(block, rotation))


def _start(gram: Tensor, sizes: Sequence[int]) -> Float[Tensor, "n m p"]:
    """Cosine waves: the first column is constant and meets the leading vector of every non-negative matrix."""
    m = gram.shape[1]
    p = min(VECTORS, m + m % 2)
    row = torch.arange(m, dtype=gram.dtype, device=gram.device).unsqueeze(1)
    phase = torch.arange(p, dtype=gram.dtype, device=gram.device) * (row + 0.5)
    waves = gram.new_zeros(len(set(sizes)), m, p)
    places = {size: index for index, size in enumerate(sorted(set(sizes)))}
    for size, index in places.items():
        waves[index, :size, :size] = torch.cos(phase[:size, :size] * (math.pi / size))
    images = gram.shape[0] // len(sizes)
    return torch.cat([waves[places[size]].expand(images, m, p) for size in sizes])


def _orthonormal(block: Float[Tensor, "n m p"]) -> Float[Tensor, "n m p"]:
    """Columns made orthonormal by Cholesky's factor of their Gram matrix, in float64 (shifted Cholesky-QR).

    A column in the span of those before it, to rounding, has no direction of its own: the shift makes it short instead
    of the factorization fail, so that no one has to ask whether it did. What the first pass shortens, a later one
    lengthens again where it was more than rounding.
    """
    wide = block.double()
    gram = torch.bmm(wide.mT, wide)
    gram.diagonal(dim1=1, dim2=2).mul_(1 + SHIFT).add_(torch.finfo(block.dtype).tiny)
    factor = torch.linalg.cholesky_ex(gram)[0]
    columns: Tensor = torch.linalg.solve_triangular(factor.mT, wide, upper=True, left=False)
    return columns.to(block.dtype)


@cache
def _pairings(p: int) -> list[list[int]]:
    """Round robin: p - 1 orders of the p players, neighbors (0, 1), (2, 3), ... meet; each pair once."""
    rest = list(range(1, p))
    rounds = []
    for _ in range(p - 1):
        players = [0, *rest]
        rounds.append([player for i in range(p // 2) for player in (players[i], players[p - 1 - i])])
        rest = [rest[-1], *rest[:-1]]
    return rounds


def jacobi(
    matrix: Float[Tensor, "n p p"], sweeps: int = SWEEPS
) -> tuple[Float[Tensor, "n p"], Float[Tensor, "n p p"]]:
    """Eigenvalues (in no order) and eigenvectors by cyclic Jacobi rotations, p / 2 disjoint ones at a time; p even.

    Each round rotates the pairs of neighbors (0, 1), (2, 3), ... by at most 45 degrees, so that their common entry
    becomes zero; then a fixed permutation brings the partners of the next round side by side.
    """
    n, p = matrix.shape[:2]
    vectors = torch.eye(p, dtype=matrix.dtype, device=matrix.device).expand(n, p, p)
    tables = _rotation_tables(p, vectors[0])
    tiny = torch.finfo(matrix.dtype).tiny
    for _ in range(sweeps * (p - 1)):
        twice_off, gap = torch.mm(matrix.reshape(n, p * p), tables.select).chunk(2, dim=1)
        # (cosines, sines) of half the angle, as sines: cos x = sin(x + pi / 2).
        parts = torch.add(tables.phase, torch.atan(twice_off / (gap + tiny)), alpha=0.5).sin()
        rotation = torch.mm(parts, tables.assemble).view(n, p, p)
        matrix = torch.bmm(rotation.mT, torch.bmm(matrix, rotation))
        vectors = torch.bmm(vectors, rotation)
    return matrix.diagonal(dim1=1, dim2=2), vectors


class _Tables(NamedTuple):
    """What a round of rotations reads with, and writes with, the same for every matrix.

    Args:
        select: reads from a flat matrix, for each pair twice, two times the off-diagonal entry, then the gap.
        phase: offset that turns the first half of the sines into cosines.
        assemble: writes the rotation, its columns permuted for the next round.
    """

    select: Float[Tensor, "pp 2*p"]
    phase: Float[Tensor, " p"]
    assemble: Float[Tensor, "p pp"]


def _rotation_tables(p: int, eye: Float[Tensor, "p p"]) -> _Tables:
    first, second = eye[::2], eye[1::2]
    products = torch.einsum("ij,ik->ijk", first, second), torch.einsum("ij,ik->ijk", second, first)
    diagonal = torch.einsum("ij,ik->ijk", first, first), torch.einsum("ij,ik->ijk", second, second)
    twice_off, gap = products[0] + products[1], diagonal[0] - diagonal[1]
    select = torch.cat((twice_off, twice_off, gap, gap)).flatten(1).T
    rounds = _pairings(p)
    following = [rounds[0].index(player) for player in rounds[1 % len(rounds)]]
    permutation = torch.stack([eye[player] for player in following], dim=1)
    cosines, sines = diagonal[0] + diagonal[1], products[1] - products[0]
    assemble = torch.matmul(torch.cat((cosines, sines)), permutation).flatten(1)
    zeros = eye.new_zeros(p)
    phase = torch.cat((zeros[: p // 2] + math.pi / 2, zeros[p // 2 :]))
    return _Tables(select, phase, assemble)
