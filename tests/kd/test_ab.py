"""Activation boundaries."""

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.ab import AB


@pytest.mark.parametrize(("height", "high"), [(2, 4), (4, 3)])
def test_sizes(height: int, high: int) -> None:
    def expected(loss, s, t):
        return reference.ab(list(s.features), list(t.features), samples.state(loss), 0.5)

    samples.assert_follows("ab", Case(expected, {"margin": 0.5}, ((2, height, height),), ((2, high, high),)))


def direct(student: list[float], teacher: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss without a connector of maps with one position, and the student's gradient."""
    s, t = (torch.tensor(v).view(1, -1, 1, 1) for v in (student, teacher))
    s.requires_grad_(True)
    x, y = (samples.Outputs(torch.zeros(1, 2), (f,)) for f in (s, t))
    loss = AB(connect_equal=False)
    loss.build(x, y, generator=torch.Generator(), images=1)
    assert not list(loss.parameters())
    value = loss(x, y)
    value.backward()
    return value.detach(), s.grad.flatten()


def test_zero_beyond_the_margin_on_the_right_side() -> None:
    value, gradient = direct([1.0, 5.0, -1.0, -7.0], [0.1, 9.0, 0.0, -3.0])
    assert value == 0
    assert torch.equal(gradient, torch.zeros(4))


def test_within_and_beyond_in_closed_form() -> None:
    # Gaps 0.5, 3, 1.5 and 1: squares 0.25 + 9 + 2.25 + 1, times 3 / 1000.
    value, gradient = direct([0.5, -2.0, 0.5, 0.0], [2.0, 2.0, -2.0, 0.0])
    torch.testing.assert_close(value, torch.tensor(0.0375))
    torch.testing.assert_close(gradient, 3e-3 * torch.tensor([-1.0, -6.0, 3.0, 2.0]))


def test_only_the_teachers_signs_count() -> None:
    case = samples.CASES["ab"]
    student, teacher = samples.pair(case)
    signs = samples.Outputs(teacher.logits, tuple(f.sign().clamp_min(0) for f in teacher.features))
    assert torch.equal(samples.made("ab", case)(student, signs), samples.made("ab", case)(student, teacher))


def test_arguments() -> None:
    with pytest.raises(InputError, match="`margin` must be a finite number above 0, got 0"):
        AB(margin=0)
