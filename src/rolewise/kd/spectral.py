"""The decomposition that KD-SVD and MHGD share: one direction over the channels per image and layer.

A feature map of one image is a matrix X with one row per position and one column per channel, X = U S V^T. The
teacher gives its leading right singular vector; the student gives, of its four leading ones, the one that lies
closest. Both losses compare these unit vectors from layer to layer.

Computed as eigenvectors of the smaller Gram matrix, X^T X or X X^T, with a derivative of their own: that of the
general SVD divides by the difference of every two squared singular values, and dead channels make some of them equal.
"""

import math
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from rolewise.errors import InputError
from rolewise.kd.base import Outputs
from rolewise.kd.checks import check_pair
from rolewise.kd.eigen import RANK_FLOOR, Exact
from rolewise.kd.subspace import Products

METHODS = ("exact", "eigh", "products")
CANDIDATES = 4
# A map whose squares sum to less is all zero for every purpose; the square of its reciprocal still is a float32.
TRACE_FLOOR = 1e-30


class Settings(NamedTuple):
    """How the vectors are computed.

    Args:
        method: "exact" (power iteration where a certificate proves it, `eigh` elsewhere), "eigh" (for every matrix) or
            "products" (batched matrix products alone); None takes "exact" on a CPU and "products" elsewhere.
        doubled_gradient: the gradient of the authors' code, see `_map_gradient` (method "eigh" alone).
    """

    method: str | None = None
    doubled_gradient: bool = False


DEFAULTS = Settings()


def check_settings(method: str | None, doubled_gradient: bool) -> Settings:
    """The settings, checked; the doubled gradient needs all eigenvectors."""
    if method is not None and method not in METHODS:
        raise InputError(f'`method` must be None, "exact", "eigh" or "products", got {method!r}.')
    if doubled_gradient and method not in (None, "eigh"):
        raise InputError(
            f'`doubled_gradient` needs all eigenvectors: `method` must be "eigh", got "{method}".'
        )
    return Settings("eigh" if doubled_gradient else method, doubled_gradient)


class Aligned(NamedTuple):
    """Directions over the channels per layer, shallow to deep.

    Args:
        student: unit vectors `(n, c)` that lie closest to the teacher's; 0 where they are orthogonal to it.
        teacher: unit vectors `(n, c)` whose sum is not negative; without history.
        alive: `(n,)`, where both networks have a direction; elsewhere (a map that is all zero or not finite) both
            vectors are 0, and so is the gradient.
    """

    student: tuple[Float[Tensor, "n _"], ...]
    teacher: tuple[Float[Tensor, "n _"], ...]
    alive: tuple[Bool[Tensor, " n"], ...]


def aligned_vectors(student: Outputs, teacher: Outputs, settings: Settings = DEFAULTS) -> Aligned:
    """The aligned leading directions of every layer.

    Source: Lee et al., ECCV 2018 (KD-SVD). The sign of the teacher's vector, which a library is free to choose and
    which changes both losses, is ours: maps after a ReLU are non-negative, hence so is their leading vector
    (Perron-Frobenius), and the sum is made non-negative. The student's sign follows from the alignment.

    Raises:
        InputError: fewer than two feature maps, other numbers of channels, or what `check_pair` refuses.
    """
    check_pair(student, teacher)
    count = len(student.features)
    if count < 2:
        raise InputError(
            f"Layers are compared with each other: at least 2 feature maps are needed, got {count}."
        )
    for index, (s, t) in enumerate(zip(student.features, teacher.features, strict=True)):
        if s.shape[1] != t.shape[1]:
            raise InputError(
                f"features[{index}] of student and teacher must have the same number of channels, since their "
                f"directions are compared: {s.shape[1]} against {t.shape[1]}. Name layers of equal width in `taps` and "
                "`teacher_taps`, or take a loss that compares networks of any width, such as rkd, soft or dkd."
            )
    maps = [f.flatten(2) for f in (*student.features, *teacher.features)]
    with _full_precision():
        vectors: tuple[Tensor, ...] = _AlignedVectors.apply(settings, count, *maps)  # type: ignore[no-untyped-call]
    return Aligned(vectors[:count], vectors[count : 2 * count], vectors[2 * count :])


def leading_vectors(
    features: Sequence[Tensor], settings: Settings = DEFAULTS
) -> tuple[Float[Tensor, "n _"], ...]:
    """The leading directions of one network's maps (the teacher's vectors of `aligned_vectors`), without history."""
    with torch.no_grad(), _full_precision():
        maps, _ = _all_maps([f.flatten(2) for f in features])
        return tuple(_leading(maps, _decompose([], maps, settings)))


@contextmanager
def _full_precision() -> Any:
    """Products in true float32: TF32's 10 bits would leave nothing of the small differences."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Maps:
    """One layer's maps `(n, c, x)`, x positions, and their smaller Gram matrices; see `_all_maps` for the rest.

    Attributes:
        dead: `(n,)`, which maps are all zero or not finite.
        scale: `(n,)`, reciprocals of the traces; 1 for dead maps.
        root: `(n, 1)`, its root.
    """

    dead: Bool[Tensor, " n"]
    scale: Float[Tensor, " n"]
    root: Float[Tensor, "n 1"]

    def __init__(self, maps: Float[Tensor, "n c x"]) -> None:
        self.maps = maps
        self.wide = maps.shape[2] < maps.shape[1]
        self.gram = torch.bmm(maps.mT, maps) if self.wide else torch.bmm(maps, maps.mT)

    def across(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n x"]:
        """X x: from channels to positions."""
        return torch.bmm(x.unsqueeze(1), self.maps).squeeze(1)

    def back(self, u: Float[Tensor, "n x"]) -> Float[Tensor, "n c"]:
        """X^T u: from positions to channels."""
        return torch.bmm(u.unsqueeze(1), self.maps.mT).squeeze(1)

    def inward(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n m"]:
        """A channel vector in the space of the Gram matrix."""
        return self.across(x) * self.root if self.wide else x

    def outward(self, u: Float[Tensor, "n m"]) -> Float[Tensor, "n c"]:
        """The right singular vector that belongs to an eigenvector of the Gram matrix; 0 for dead maps."""
        vector = u
        if self.wide:
            vector = self.back(u)
            length = torch.linalg.vector_norm(vector, dim=1, keepdim=True)
            vector = vector / length.clamp_min(torch.finfo(length.dtype).tiny)
        return vector.masked_fill(self.dead.unsqueeze(1), 0)


def _all_maps(maps: Sequence[Float[Tensor, "n _ _"]]) -> tuple[list[_Maps], Bool[Tensor, "k n"]]:
    """The layers, their Gram matrices divided by the trace, and which maps have a direction."""
    layers = [_Maps(m) for m in maps]
    traces = torch.stack([layer.gram.diagonal(dim1=1, dim2=2).sum(1) for layer in layers])
    alive = (traces > TRACE_FLOOR) & (traces < math.inf)
    dead = ~alive  # `masked_fill` with it is one operation; `where` with a number makes a tensor of it first
    scale = traces.masked_fill(dead, 1).reciprocal()
    for layer, *numbers in zip(layers, dead, scale, scale.sqrt().unsqueeze(2), strict=True):
        layer.dead, layer.scale, layer.root = numbers
        layer.gram.mul_(layer.scale[:, None, None]).masked_fill_(layer.dead[:, None, None], 0)
    return layers, alive


def _decompose(student: list[_Maps], teacher: list[_Maps], settings: Settings) -> Exact | Products:
    method = settings.method
    if method is None:
        method = "exact" if teacher[0].maps.device.type == "cpu" else "products"
    grams = [maps.gram for maps in student], [maps.gram for maps in teacher]
    return Products(*grams) if method == "products" else Exact(*grams, certified=method == "exact")


def _leading(teacher: list[_Maps], solver: Exact | Products) -> list[Tensor]:
    """The teacher's vectors, their sums made non-negative."""
    vectors = [maps.outward(u) for maps, u in zip(teacher, solver.leading(), strict=True)]
    return [torch.where(v.sum(1, keepdim=True) < 0, -v, v) for v in vectors]


class _AlignedVectors(torch.autograd.Function):
    """Student's and teacher's vectors of all layers; the gradient reaches the student's maps alone.

    With v the chosen eigenvector of A = X^T X and g the gradient that arrives at it: y = (w - A)^+ g, and the gradient
    of X is (X y) v^T + (X v) y^T. It needs gaps between w and the other eigenvalues, never between those.
    """

    @staticmethod
    def forward(ctx: Any, settings: Settings, count: int, *maps: Tensor) -> tuple[Tensor, ...]:
        layers, alive = _all_maps(maps)
        student, teacher = layers[:count], layers[count:]
        solver = _decompose(student, teacher, settings)
        targets = _leading(teacher, solver)
        probes = [s.inward(t) for s, t in zip(student, targets, strict=True)]
        choices = solver.choose(probes, [s.wide for s in student], CANDIDATES)
        both = alive[:count] & alive[count:]
        dead = ~both
        signs = torch.stack([c.cosine for c in choices]).sign().masked_fill(dead, 0).unsqueeze(2)
        unturned = signs == 0
        vectors = [s.outward(c.vector) for s, c in zip(student, choices, strict=True)]
        ctx.settings, ctx.solver, ctx.layers = settings, solver, student
        ctx.turns, ctx.vectors, ctx.values = (signs, unturned), vectors, [c.value for c in choices]
        aligned = [_turned(*parts) for parts in zip(vectors, signs, unturned, strict=True)]
        targets = [t.masked_fill(d, 0) for d, t in zip(dead.unsqueeze(2), targets, strict=True)]
        ctx.mark_non_differentiable(*targets, *both)
        ctx.save_for_backward(*maps[:count])  # which notices if someone changes them in place
        for layer in student:
            layer.maps = layer.maps.new_empty(0)
        return (*aligned, *targets, *both)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with _full_precision():
            count = len(ctx.layers)
            for layer, maps in zip(ctx.layers, ctx.saved_tensors, strict=True):
                layer.maps = maps
            arriving = [_turned(*parts) for parts in zip(gradients[:count], *ctx.turns, strict=True)]
            inward = [layer.inward(g) for layer, g in zip(ctx.layers, arriving, strict=True)]
            solved = ctx.solver.solve(inward)
            rows = ctx.solver.row_space(inward) if ctx.settings.doubled_gradient else solved
            result = [
                _map_gradient(*parts, doubled=ctx.settings.doubled_gradient)
                for parts in zip(ctx.layers, ctx.vectors, ctx.values, arriving, solved, rows, strict=True)
            ]
        return (None, None, *result, *([None] * count))


def _turned(
    x: Float[Tensor, "n c"], sign: Float[Tensor, "n 1"], zero: Bool[Tensor, "n 1"]
) -> Float[Tensor, "n c"]:
    """Rows times their sign; 0 where `zero` is true, whatever the row holds."""
    return (x * sign).masked_fill_(zero, 0)


def _map_gradient(
    layer: _Maps, v: Tensor, value: Tensor, g: Tensor, solved: Tensor, row: Tensor, *, doubled: bool
) -> Tensor:
    """The gradient of a layer's maps from y = (w - A)^+ g (times the trace), see `_AlignedVectors`.

    Where there are fewer positions than channels, y = (g - v (v . g) + X^T (w - X X^T)^+ X g) / w.
    """
    factor = 2 if doubled else 1
    y = factor * solved
    outer = y  # what is multiplied with X v; the authors' gradient is not symmetric there
    if layer.wide:
        floored = value.clamp_min(RANK_FLOOR).unsqueeze(1)
        root = layer.root
        across = v * (v * g).sum(1, keepdim=True)
        y = g - across + root * layer.back(solved)
        if doubled:
            # With P = X^T (X X^T)^+ X, the authors double all but the part outside the row space, g - P g, and
            # subtract U offdiag(U^T D) V^T, which is (P g - v (v . g)) times X v.
            inside = root * layer.back(row)
            y = 2 * y - (g - inside)
            outer = (y - (inside - across)) / floored
        y = y / floored
        outer = outer if doubled else y
    y, outer = y * layer.scale.unsqueeze(1), outer * layer.scale.unsqueeze(1)
    # Dead maps are masked in the small factors: the product is as large as the map.
    dead = layer.dead[:, None, None]
    left = torch.stack((v, outer), dim=2).masked_fill_(dead, 0)
    right = torch.bmm(torch.stack((y, v), dim=1), layer.maps).masked_fill_(dead, 0)
    # In the memory format of the maps: in another one the backward pass of a ReLU takes thirty times as long.
    if layer.maps.stride(1) < layer.maps.stride(2):
        return torch.bmm(right.mT, left.mT).mT
    return torch.bmm(left, right)
