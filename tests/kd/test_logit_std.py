"""Logit standardization."""

from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.base import Outputs
from rolewise.kd.logit_std import LogitStandardization


def test_other_settings() -> None:
    settings = {"temperature": 0.7, "unbiased": False}
    case = Case(lambda _, s, t: reference.logit_std(s.logits, t.logits, 0.7, False), settings)
    samples.assert_follows("logit-std", case)


def test_zero_at_equality_at_any_scale_and_shift() -> None:
    student, _ = samples.pair(samples.CASES["logit-std"])
    moved = replace(student, logits=student.logits.detach() * torch.tensor([[0.1], [1.0], [5.0], [90.0]]) + 3)
    assert LogitStandardization()(student, student) == 0
    assert LogitStandardization()(student, moved) < 1e-15


def test_opposite_rankings_in_closed_form() -> None:
    # Two classes standardize to +-1 / sqrt 2, softened by 2: probabilities sigmoid(+-sqrt(1/2)).
    z = torch.tensor([[3.0, 1.0]])
    p = torch.sigmoid(torch.tensor(0.5).sqrt())
    expected = 4 * (2 * p - 1) * (p / (1 - p)).log()
    torch.testing.assert_close(LogitStandardization()(Outputs(z), Outputs(-z)), expected)


def test_constant_logits_take_no_gradient() -> None:
    flat = torch.full((2, 7), 0.1, requires_grad=True)
    teacher = Outputs(torch.randn(2, 7, generator=torch.Generator().manual_seed(0)))
    LogitStandardization()(Outputs(flat), teacher).backward()
    assert torch.equal(flat.grad, torch.zeros(2, 7))


def test_one_class_and_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="LogitStandardization compares classes and needs at least 2, got 1"):
        LogitStandardization()(Outputs(torch.zeros(2, 1)), Outputs(torch.zeros(2, 1)))
    with pytest.raises(InputError, match="`temperature` must be a finite number above 0, got inf"):
        LogitStandardization(temperature=float("inf"))
