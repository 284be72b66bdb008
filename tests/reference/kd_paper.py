"""The paper's six distillation losses, slowly: loops straight from the equations, in float64, one scalar at a time.

Gradients come from autograd through these scalars, and through `torch.linalg.svd` for the singular vectors. Nothing of
the package is imported.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def softmax(row: Tensor, temperature: float = 1.0) -> list[Tensor]:
    powers = [torch.exp(x / temperature) for x in row]
    total = sum(powers[1:], powers[0])
    return [x / total for x in powers]


def divergence(p: Sequence[Tensor], q: Sequence[Tensor]) -> Tensor:
    """KL(p || q)."""
    return _sum(a * (torch.log(a) - torch.log(b)) for a, b in zip(p, q, strict=True))


def soft(student: Tensor, teacher: Tensor, temperature: float = 3.0) -> Tensor:
    """mean_b KL(p_T || p_S) at a temperature."""
    rows = zip(student, teacher, strict=True)
    return _sum(divergence(softmax(t, temperature), softmax(s, temperature)) for s, t in rows) / len(student)


def soft_paper(student: Tensor, teacher: Tensor) -> Tensor:
    """Eq. 3: the cross-entropy of the two predictions, no temperature (batch mean)."""
    total = []
    for s, t in zip(student, teacher, strict=True):
        total += [-p * torch.log(q) for p, q in zip(softmax(t), softmax(s), strict=True)]
    return _sum(total) / len(student)


def dml(student: Tensor, teacher: Tensor) -> Tensor:
    """Half of both divergences."""
    total = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(s), softmax(t)
        total.append((divergence(q, p) + divergence(p, q)) / 2)
    return _sum(total) / len(student)


def huber(u: Tensor) -> Tensor:
    return u * u / 2 if abs(float(u.detach())) <= 1 else abs(u) - 0.5


def _unit(x: Tensor) -> Tensor:
    length = torch.sqrt(_sum(a * a for a in x)) if bool((x != 0).any()) else x.new_zeros(())
    return x / length if float(length.detach()) > 1e-6 else x / 1e-6


def _relations(x: Tensor, *, diagonal: bool) -> tuple[list[list[Tensor]], list[list[list[Tensor]]]]:
    """Relative distances and cosines of angles of all rows."""
    n = len(x)
    distance = [[x.new_zeros(()) for _ in range(n)] for _ in range(n)]
    for i in range(n):
        for j in range(n):
            squared = _sum((x[i, k] - x[j, k]) ** 2 for k in range(x.shape[1]))
            if float(squared.detach()) > 1e-12:
                distance[i][j] = torch.sqrt(squared)
            elif i != j or diagonal:
                distance[i][j] = x.new_tensor(1e-6)
    positive = sum(float(d.detach()) > 0 for row in distance for d in row)
    mean = _sum(d for row in distance for d in row) / positive
    relative = [[d / (mean + 1e-8) for d in row] for row in distance]
    angle = [[[x.new_zeros(()) for _ in range(n)] for _ in range(n)] for _ in range(n)]
    for i in range(n):
        for j in range(n):
            for k in range(n):
                if i not in (j, k):
                    a, b = _unit(x[j] - x[i]), _unit(x[k] - x[i])
                    angle[i][j][k] = _sum(p * q for p, q in zip(a, b, strict=True))
    return relative, angle


def rkd(
    student: Tensor,
    teacher: Tensor,
    *,
    distance_weight: float = 50.0,
    angle_weight: float = 100.0,
    normalize: bool = True,
    diagonal: bool = True,
) -> Tensor:
    if normalize:
        student = torch.stack([_unit(row) for row in student])
        teacher = torch.stack([_unit(row) for row in teacher])
    n = len(student)
    d_s, a_s = _relations(student, diagonal=diagonal)
    d_t, a_t = _relations(teacher, diagonal=diagonal)
    pairs = [(i, j) for i in range(n) for j in range(n)]
    distance = _sum(huber(d_s[i][j] - d_t[i][j]) for i, j in pairs) / n**2
    angle = _sum(huber(a_s[i][j][k] - a_t[i][j][k]) for i, j in pairs for k in range(n)) / n**3
    return distance_weight * distance + angle_weight * angle


def singular_vectors(feature: Tensor, count: int) -> Tensor:
    """The leading right singular vectors of one image's map (c, h, w) as rows: positions x channels = U S V^T."""
    matrix = feature.flatten(1).T
    return torch.linalg.svd(matrix, full_matrices=False)[2][:count]


def aligned(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """One layer's vectors, image by image: the student's nearest of 4 to the teacher's first, whose sum is >= 0."""
    vectors = []
    targets = []
    for s, t in zip(student, teacher, strict=True):
        target = singular_vectors(t, 1)[0].detach()
        if float(target.sum()) < 0:
            target = -target
        best, vector = 0.0, torch.zeros_like(target)
        for candidate in singular_vectors(s, 4):
            cosine = float(_sum(a * b for a, b in zip(candidate.detach(), target, strict=True)))
            if abs(cosine) > best:
                best, vector = abs(cosine), math.copysign(1.0, cosine) * candidate
        vectors.append(vector)
        targets.append(target)
    return torch.stack(vectors), torch.stack(targets)


def svd_gradient(matrix: Tensor, column: int, arriving: Tensor, *, half: bool) -> Tensor:
    """The gradient of `matrix` (m, n) that belongs to the gradient `arriving` at right singular vector `column`.

    Source: Ionescu et al., ICCV 2015 (matrix backpropagation), proposition 2, for right singular vectors: in the form
    for m >= n, and by transposition for m < n.

    Args:
        half: whether a matrix is made symmetric with the factor 1/2, as it must be; the role-wise authors' code has
            none.
    """
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    rank = len(s)
    given = torch.zeros(matrix.shape[1], rank, dtype=matrix.dtype)
    given[:, column] = arriving
    factors = torch.zeros(rank, rank, dtype=matrix.dtype)
    for i in range(rank):
        for j in range(rank):
            if i != j:
                factors[i, j] = 1 / (s[i] ** 2 - s[j] ** 2)

    def symmetric(x: Tensor) -> Tensor:
        return (x + x.T) / 2 if half else x + x.T

    if matrix.shape[0] >= matrix.shape[1]:
        return 2 * u @ torch.diag(s) @ symmetric(factors.T * (vt @ given)) @ vt
    d = given @ torch.diag(1 / s)
    middle = symmetric(factors.T * (-(d.T @ vt.T) @ torch.diag(s)))
    transposed = (
        d @ u.T - vt.T @ torch.diag(torch.diag(vt @ d)) @ u.T + 2 * vt.T @ torch.diag(s) @ middle @ u.T
    )
    return transposed.T


Layers = Sequence[tuple[Tensor, Tensor]]


def kernel_loss(layers: Layers) -> Tensor:
    """The sum over neighboring layers, images and entries of the squared differences of the RBF kernels."""
    total = []
    for (s_0, t_0), (s_1, t_1) in itertools.pairwise(layers):
        for b in range(len(s_0)):
            for i in range(s_1.shape[1]):
                for j in range(s_0.shape[1]):
                    r_s = torch.exp(-((s_1[b, i] - s_0[b, j]) ** 2) / 8)
                    r_t = torch.exp(-((t_1[b, i] - t_0[b, j]) ** 2) / 8)
                    total.append((r_s - r_t) ** 2)
    return _sum(total)


def kd_svd(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    return kernel_loss([aligned(s, t) for s, t in zip(student, teacher, strict=True)])


def head(x: Tensor, state: dict[str, Tensor], heads: int, eps: float) -> list[list[list[Tensor]]]:
    """A linear map and a batch norm in inference mode, as [image][component][head]."""
    result = []
    for row in x:
        out = []
        for o in range(len(state["weight"])):
            value = _sum(w * a for w, a in zip(state["weight"][o], row, strict=True))
            value = (value - state["mean"][o]) / torch.sqrt(state["variance"][o] + eps)
            out.append(value * state["gain"][o] + state["shift"][o])
        result.append([out[d * heads : (d + 1) * heads] for d in range(len(out) // heads)])
    return result


def graph(rows: list[list[list[Tensor]]], columns: list[list[list[Tensor]]], a: int) -> list[list[Tensor]]:
    """Inner products of head `a`, one per pair of images."""
    return [[_sum(r[d][a] * c[d][a] for d in range(len(r))) for c in columns] for r in rows]


def graph_divergence(student: Sequence[Sequence[Tensor]], teacher: Sequence[Sequence[Tensor]]) -> Tensor:
    """KL(student || teacher) of the rows of two graphs, after tanh and softmax."""
    total = []
    for s, t in zip(student, teacher, strict=True):
        p = softmax(torch.stack([torch.tanh(x) for x in s]))
        q = softmax(torch.stack([torch.tanh(x) for x in t]))
        total.append(divergence(p, q))
    return _sum(total)


Heads = Sequence[
    tuple[dict[str, Tensor], dict[str, Tensor]]
]  # per pair of layers: of the rows, of the columns


def graph_loss(layers: Layers, states: Heads, *, heads: int, eps: float) -> Tensor:
    total = []
    for (low, high), (row_state, column_state) in zip(itertools.pairwise(layers), states, strict=True):
        graphs = []
        for side in (0, 1):
            rows = head(high[side], row_state, heads, eps)
            columns = head(low[side], column_state, heads, eps)
            graphs.append([graph(rows, columns, a) for a in range(heads)])
        total += [graph_divergence(s, t) for s, t in zip(*graphs, strict=True)]
    return _sum(total)


def mhgd(
    student: Sequence[Tensor], teacher: Sequence[Tensor], states: Heads, *, heads: int, eps: float
) -> Tensor:
    layers = [aligned(s, t) for s, t in zip(student, teacher, strict=True)]
    return graph_loss(layers, states, heads=heads, eps=eps)


def _batch_norm(x: Tensor, state: dict[str, Tensor], momentum: float, eps: float) -> Tensor:
    """In training mode; updates the running statistics (the variance without bias, as torch does)."""
    n, columns = x.shape
    out = []
    for c in range(columns):
        mean = _sum(x[:, c]) / n
        variance = _sum((a - mean) ** 2 for a in x[:, c]) / n
        state["mean"][c] += momentum * (mean.detach() - state["mean"][c])
        state["variance"][c] += momentum * (variance.detach() * n / (n - 1) - state["variance"][c])
        out.append((x[:, c] - mean) / torch.sqrt(variance + eps) * state["gain"][c] + state["shift"][c])
    return torch.stack(out, 1)


def estimator_loss(
    current: Tensor,
    previous: Tensor,
    state: dict[str, dict[str, Tensor]],
    noise: Tensor,
    *,
    momentum: float,
    eps: float,
) -> Tensor:
    """1 - cosine of the current layer's vectors and those predicted from the previous layer's, batch mean.

    Args:
        state: "rows", "columns", "inner" with weight, gain, shift, mean, variance; "output" with weight, bias.
        noise: `(heads, n, 1)`; a row keeps the heads whose draw exceeds its mean over the heads.
    """
    heads, n = len(noise), len(current)
    rows = _batch_norm(current @ state["rows"]["weight"].T, state["rows"], momentum, eps)
    columns = _batch_norm(previous @ state["columns"]["weight"].T, state["columns"], momentum, eps)
    values = _batch_norm(previous @ state["inner"]["weight"].T, state["inner"], momentum, eps).clamp_min(0)
    width = rows.shape[1] // heads
    total = []
    for i in range(n):
        mixed = []
        for a in range(heads):
            scores = [
                _sum(rows[i, d * heads + a] * columns[j, d * heads + a] for d in range(width))
                for j in range(n)
            ]
            attention = softmax(torch.stack(scores))
            keep = float(noise[a, i, 0]) > float(noise[:, i, 0].mean())
            for d in range(width):
                mixed.append(keep * _sum(attention[j] * values[j, d] for j in range(n)))
        predicted = state["output"]["weight"] @ torch.stack(mixed) + state["output"]["bias"]
        total.append(1 - _sum(_unit(predicted) * current[i]))
    return _sum(total) / n


def _sum(values: object) -> Tensor:
    """The sum of an iterable of scalars."""
    first, *rest = values  # type: ignore[misc]
    for value in rest:
        first = first + value
    return first
