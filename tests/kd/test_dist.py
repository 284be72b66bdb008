"""Distillation from a stronger teacher."""

from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.base import Outputs
from rolewise.kd.dist import DIST


def test_other_settings() -> None:
    settings = {"beta": 0.5, "gamma": 3.0, "tau": 4.0}
    case = Case(lambda _, s, t: reference.dist(s.logits, t.logits, 0.5, 3.0, 4.0), settings)
    samples.assert_follows("dist", case)


def test_zero_at_equality_and_shifts_do_not_matter() -> None:
    student, teacher = samples.pair(samples.CASES["dist"])
    assert DIST()(student, student) == 0
    shifted = replace(teacher, logits=teacher.logits + torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    torch.testing.assert_close(DIST()(student, shifted), DIST()(student, teacher))


def test_single_precision_near_equality() -> None:
    student, _ = samples.pair(samples.CASES["dist"], dtype=torch.float32)
    near = replace(student, logits=student.logits.detach() * 1.001)
    exact = DIST()(
        replace(student, logits=student.logits.double()), replace(near, logits=near.logits.double())
    )
    torch.testing.assert_close(DIST()(student, near).double(), exact, rtol=2e-3, atol=0)


def test_opposite_predictions_count_2_on_either_side() -> None:
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(DIST()(Outputs(z), Outputs(-z)), torch.tensor(4.0))


def test_a_constant_prediction_counts_1_without_gradient() -> None:
    flat = torch.full((3, 4), 0.3, requires_grad=True)
    value = DIST()(Outputs(flat), Outputs(torch.randn(3, 4, generator=torch.Generator().manual_seed(0))))
    value.backward()
    torch.testing.assert_close(value, torch.tensor(2.0))
    assert torch.equal(flat.grad, torch.zeros(3, 4))


def test_one_image_and_arguments_are_refused() -> None:
    with pytest.raises(
        InputError, match="DIST compares images with each other and needs a batch of at least 2, got 1"
    ):
        DIST()(Outputs(torch.zeros(1, 3)), Outputs(torch.zeros(1, 3)))
    with pytest.raises(InputError, match="`tau` must be a finite number above 0, got nan"):
        DIST(tau=float("nan"))
