"""Neuron selectivity transfer."""

from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.kd.nst import NST


@pytest.mark.parametrize(
    ("student", "teacher"), [((2, 4, 4), (3, 2, 2)), ((9, 2, 2), (2, 3, 4)), ((2, 3, 3), (2, 3, 3))]
)
def test_sizes_on_either_way_of_computing(student: tuple, teacher: tuple) -> None:
    case = Case(lambda _, s, t: reference.nst(list(s.features), list(t.features)), {}, (student,), (teacher,))
    samples.assert_follows("nst", case)


def test_zero_at_equality_in_whatever_order_sign_scale_and_number_of_channels() -> None:
    student, _ = samples.pair(samples.CASES["nst"])
    for change in (
        lambda f: f,
        lambda f: f.flip(1),
        lambda f: -2 * f,
        lambda f: f * torch.arange(1, f.shape[1] + 1).view(1, -1, 1, 1),
        lambda f: torch.cat((f, f), 1),
    ):
        teacher = replace(student, features=tuple(change(f.detach()) for f in student.features))
        assert NST()(student, teacher).abs() < 1e-15


def test_orthogonal_patterns_in_closed_form() -> None:
    a, b = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    a[..., 0], b[..., 1] = 3, 4
    x, y = (samples.Outputs(torch.zeros(1, 2), (f,)) for f in (a, b))
    assert NST()(x, y) == 2
