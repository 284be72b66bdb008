"""The exact way to the leading vectors: power iteration is trusted only where it is proven right."""

from collections.abc import Callable

import pytest
import torch
from paper_samples import TOLERANCE, grams
from torch import Tensor

from rolewise.kd import eigen
from rolewise.kd.eigen import Exact, power_iteration

SPECTRA: dict[str, Callable[[Tensor], Tensor]] = {
    "steep": lambda i: 0.1**i,
    "flat": lambda i: 1 - 0.001 * i,
    "a tie at the top": lambda i: torch.where(i < 2, 1.0, 0.01) + 1e-9 * i,
    "nearly a tie": lambda i: torch.where(i < 2, 1 - 0.02 * i, 0.01 / (i + 1)),
    "half of the squares": lambda i: torch.where(i == 0, 1.0, torch.where(i == 1, 0.9, 1e-3)),
    "rank 1": lambda i: (i == 0).double(),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", SPECTRA)
def test_exact_finds_the_leading_vector_of_any_matrix(name: str, dtype: torch.dtype) -> None:
    for m in (2, 9, 70):
        gram = grams(6, m, SPECTRA[name]).to(dtype)
        vector = Exact([], [gram]).leading()[0].double()
        best = torch.linalg.eigvalsh(gram.double())[:, -1]
        height = (vector * (gram.double() @ vector.unsqueeze(2)).squeeze(2)).sum(1)
        torch.testing.assert_close(height, best, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)


def test_a_start_that_misses_the_leading_vector() -> None:
    """The row sums are orthogonal to it: power iteration alone would settle on the second."""
    gram = torch.diag_embed(torch.tensor([[0.0, 0.0, 0.0, 0.25]], dtype=torch.float64))
    gram[0, :2, :2] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * 0.375
    vector = Exact([], [gram]).leading()[0][0]
    torch.testing.assert_close(vector[0] * vector, torch.tensor([0.5, -0.5, 0, 0], dtype=torch.float64))


def test_power_iteration_is_certain_only_where_it_is_right() -> None:
    for name, spectrum in SPECTRA.items():
        gram = grams(40, 12, spectrum, seed=3)
        vector, value, certain = power_iteration(gram)
        values, vectors = torch.linalg.eigh(gram)
        assert bool(certain.all()) == (name in ("steep", "rank 1")), name
        torch.testing.assert_close(value[certain], values[certain, -1], rtol=1e-12, atol=0)
        cosine = (vector * vectors[:, :, -1]).sum(1).abs()
        assert float(cosine[certain].min() if bool(certain.any()) else 1) > 1 - 1e-12


@pytest.mark.parametrize("wide", [False, True])
def test_exact_chooses_and_solves_like_eigh(wide: bool) -> None:
    """A mixture of certain and uncertain matrices, and probes that are close to the first vector or to others."""
    gram = torch.cat([grams(4, 9, SPECTRA[name], seed=5) for name in ("steep", "nearly a tie", "rank 1")])
    g = torch.Generator().manual_seed(6)
    vectors = torch.linalg.eigh(gram)[1].flip(2)
    probe = vectors[:, :, 0] * (torch.arange(12) % 2).unsqueeze(1) + 0.4 * torch.rand(12, 9, generator=g)
    probe = torch.nn.functional.normalize(probe)
    if wide:  # what X t is for a unit vector t, where X X^T is the matrix
        values = torch.linalg.eigvalsh(gram).flip(1).clamp_min(0)
        probe = (vectors * values.sqrt().unsqueeze(1) @ vectors.mT @ probe.unsqueeze(2)).squeeze(2)
    rhs = torch.rand(12, 9, generator=g, dtype=torch.float64)
    found, expected = Exact([gram], []), Exact([gram], [], certified=False)
    one, other = found.choose([probe], [wide], 4)[0], expected.choose([probe], [wide], 4)[0]
    sign = (one.vector * other.vector).sum(1).sign()
    torch.testing.assert_close(one.vector * sign.unsqueeze(1), other.vector)
    torch.testing.assert_close(one.value, other.value)
    torch.testing.assert_close(one.cosine * sign, other.cosine)
    torch.testing.assert_close(found.solve([rhs])[0], expected.solve([rhs])[0])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_system_is_solved_by_iteration_or_by_a_factor(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second eigenvalue is small against the first in some matrices, and close to it in the others."""
    factored: list[int] = []

    def watched(gram: Tensor, *rest: Tensor) -> Tensor:
        factored.append(len(gram))
        return solve(gram, *rest)

    solve = eigen._factored_solve
    monkeypatch.setattr(eigen, "_factored_solve", watched)
    gram = torch.cat([grams(4, 9, lambda i, r=ratio: r**i, seed=5) for ratio in (0.1, 0.7)])
    values, vectors = torch.linalg.eigh(gram)
    g = torch.Generator().manual_seed(2)
    rhs = torch.randn(8, 9, generator=g, dtype=torch.float64)
    gaps = values[:, -1:] - values
    inverse = torch.where(gaps > 0, 1 / gaps, 0)
    expected = ((rhs.unsqueeze(1) @ vectors).squeeze(1) * inverse).unsqueeze(1) @ vectors.mT
    found = eigen._definite_solve(*(x.to(dtype) for x in (gram, vectors[:, :, -1], values[:, -1], rhs)))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found.double(), expected.squeeze(1), rtol=tolerance, atol=tolerance)
    assert factored == [4]
