"""Decoupled knowledge distillation."""

from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.base import Outputs
from rolewise.kd.dkd import DKD


def test_other_settings() -> None:
    settings = {"alpha": 0.3, "beta": 2.0, "temperature": 1.5}
    case = Case(lambda _, s, t: reference.dkd(s.logits, t.logits, s.labels.tolist(), 0.3, 2.0, 1.5), settings)
    samples.assert_follows("dkd", case)


def test_zero_at_equality_and_shifts_do_not_matter() -> None:
    student, teacher = samples.pair(samples.CASES["dkd"])
    assert DKD()(student, student) == 0
    shifted = replace(teacher, logits=teacher.logits + 7)
    torch.testing.assert_close(DKD()(student, shifted), DKD()(student, teacher))


def test_the_parts_make_up_the_usual_divergence() -> None:
    # Eq. 6 of the paper: KL(p_T || p_S) = target part + (1 - p_t) other part.
    student, teacher = samples.pair(samples.CASES["dkd"], n=1)
    p, q = torch.softmax(teacher.logits / 4, 1), torch.softmax(student.logits / 4, 1)
    rest = float(1 - p[0, student.labels[0]])
    whole = 16 * (p * (p / q).log()).sum()
    torch.testing.assert_close(DKD(beta=rest)(student, teacher), whole)


def test_two_classes_leave_the_target_part() -> None:
    student, teacher = (replace(x, logits=x.logits[:, :2]) for x in samples.pair(samples.CASES["dkd"]))
    student, teacher = (replace(x, labels=x.labels % 2) for x in (student, teacher))
    torch.testing.assert_close(DKD(beta=100.0)(student, teacher), DKD(beta=1.0)(student, teacher))


def test_certainty_in_single_precision() -> None:
    certain = Outputs(torch.tensor([[2000.0, 0.0, -5.0], [0.0, 2000.0, -5.0]]), (), torch.tensor([0, 1]))
    unsure = replace(certain, logits=torch.zeros(2, 3, requires_grad=True))
    value = DKD()(unsure, certain)
    value.backward()
    # The target part is log 3; in each row the other two classes differ by 5 / 4 after softening.
    p = torch.softmax(torch.tensor([0.0, -1.25]), 0)
    others = (p * (2 * p).log()).sum()
    torch.testing.assert_close(value, 16 * (torch.tensor(3.0).log() + 8 * others))
    assert torch.isfinite(unsure.logits.grad).all()
    back = DKD()(replace(certain, logits=certain.logits.requires_grad_()), unsure)
    back.backward()
    assert torch.isfinite(back)
    assert torch.isfinite(certain.logits.grad).all()


def test_labels_come_from_either_side() -> None:
    student, teacher = samples.pair(samples.CASES["dkd"])
    bare = replace(student, labels=None)
    assert torch.equal(DKD()(bare, teacher), DKD()(student, teacher))
    with pytest.raises(InputError, match=r"DKD needs the images' classes: give Outputs\(..., labels=...\)"):
        DKD()(bare, replace(teacher, labels=None))
    with pytest.raises(InputError, match="one number for each of the 4 images of the logits, got 3"):
        DKD()(replace(student, labels=torch.tensor([0, 1, 2]), ids=None), teacher)


def test_one_class_and_arguments_are_refused() -> None:
    one = Outputs(torch.zeros(2, 1), (), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="DKD compares classes and needs at least 2, got 1"):
        DKD()(one, one)
    with pytest.raises(InputError, match="`temperature` must be a finite number above 0, got 0"):
        DKD(temperature=0)
