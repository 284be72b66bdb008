"""Attention transfer."""

from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.at import AT

SIZES = (((3, 4, 4),), ((2, 2, 2),)), (((3, 3, 2),), ((2, 4, 4),)), (((2, 5, 5),), ((2, 2, 3),))


@pytest.mark.parametrize(("student", "teacher"), SIZES)
@pytest.mark.parametrize(("power", "form"), [(2.0, "squared"), (1.0, "squared"), (3.0, "paper")])
def test_powers_forms_and_sizes(
    student: samples.Shapes, teacher: samples.Shapes, power: float, form: str
) -> None:
    def expected(_, s, t):
        return reference.at(list(s.features), list(t.features), power, form == "paper")

    samples.assert_follows("at", Case(expected, {"power": power, "form": form}, student, teacher))


def test_zero_at_equality_and_at_any_scale() -> None:
    student, _ = samples.pair(samples.CASES["at"])
    for form in ("squared", "paper"):
        for factor in (1.0, -3.0):
            scaled = replace(student, features=tuple(factor * f for f in student.features))
            loss = AT(form=form)(student, scaled)
            assert loss < 1e-14
            loss.backward()
            assert all(torch.isfinite(f.grad).all() for f in student.features)


def test_channels_may_be_permuted_and_repeated() -> None:
    student, teacher = samples.pair(samples.CASES["at"])
    other = replace(teacher, features=tuple(torch.cat((f.flip(1), f), 1) for f in teacher.features))
    torch.testing.assert_close(AT()(student, other), AT()(student, teacher), rtol=1e-12, atol=0)


def test_one_position_against_another() -> None:
    a, b = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    a[..., 0], b[..., 1] = 5, 7
    x, y = (samples.Outputs(torch.zeros(1, 2), (f,)) for f in (a, b))
    assert AT()(x, y) == 1
    torch.testing.assert_close(AT(form="paper")(x, y), torch.tensor(2.0).sqrt())


def test_arguments() -> None:
    with pytest.raises(InputError, match="`power` must be a finite number above 0, got 0"):
        AT(power=0)
