"""Correlation congruence."""

import math
from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.cc import CC


def test_neighbors() -> None:
    def expected(loss, s, t):
        return reference.cc_neighbors(s.features[-1], t.features[-1], samples.state(loss))

    samples.assert_follows("cc", Case(expected, {"size": 3, "form": "neighbors"}))


@pytest.mark.parametrize("form", ["kernel", "neighbors"])
def test_zero_where_embeddings_are_equal(form: str) -> None:
    case = Case(lambda *_: torch.zeros(()), {"size": 3, "form": form}, samples.EQUAL, samples.EQUAL)
    loss = samples.made("cc", case)
    loss.teacher_embedding.load_state_dict(loss.student_embedding.state_dict())
    student, _ = samples.pair(case)
    value = loss(student, student)
    assert value == 0


def test_the_series_tends_to_the_gaussian_kernel() -> None:
    case = Case(lambda *_: torch.zeros(()), {"size": 3, "gamma": 0.7, "order": 30})
    loss = samples.made("cc", case)
    student, teacher = samples.pair(case)

    def kernel(x, layer):
        f = samples.embed(x, layer)
        f = f / f.norm(dim=1, keepdim=True)
        return torch.stack([torch.stack([torch.exp(-0.7 * ((a - b) ** 2).sum()) for b in f]) for a in f])

    gap = kernel(student.features[-1], loss.student_embedding) - kernel(
        teacher.features[-1], loss.teacher_embedding
    )
    torch.testing.assert_close(loss(student, teacher), (gap**2).mean())


def test_opposite_pairs_in_closed_form() -> None:
    loss = CC(size=1)
    x = samples.Outputs(torch.zeros(2, 2), (torch.tensor([1.0, 1.0]).view(2, 1, 1, 1),))
    y = replace(x, features=(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1),))
    loss.build(x, y, generator=torch.Generator(), images=2)
    for layer in (loss.student_embedding, loss.teacher_embedding):
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    # Off the diagonal the kernel is e^-0.8 (1 + 0.8 + 0.32) against e^-0.8 (1 - 0.8 + 0.32).
    torch.testing.assert_close(loss(x, y), torch.tensor((1.6 * math.exp(-0.8)) ** 2 / 2))


def test_arguments() -> None:
    with pytest.raises(InputError, match="`order` must be an integer at least 1, got 0"):
        CC(order=0)
    with pytest.raises(InputError, match="`gamma` must be a finite number above 0, got -1"):
        CC(gamma=-1)
