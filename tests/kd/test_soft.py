"""Soft labels: golden values, the float64 loops, limits."""

import paper_samples as samples
import pytest
import torch
from paper_samples import reference

from rolewise.errors import InputError
from rolewise.kd import Outputs, SoftLabels
from rolewise.kd.soft import soft_label_loss

T = torch.tensor([[2, 0, -1], [0, 1, 3]], dtype=torch.float64)
S = torch.tensor([[1, 0, 0], [0, 0, 1]], dtype=torch.float64)


@pytest.mark.parametrize(("temperature", "value"), [(1, 0.1833833627), (3, 0.0358571403), (4, 0.0206834869)])
def test_golden_values(temperature: float, value: float) -> None:
    assert float(SoftLabels(temperature=temperature)(Outputs(S), Outputs(T))) == pytest.approx(
        value, abs=1e-10
    )


def test_golden_value_of_the_other_direction() -> None:
    assert float(soft_label_loss(T, S, 1.0)) == pytest.approx(0.2542259785, abs=1e-10)


@pytest.mark.parametrize("dtype", samples.TOLERANCE)
def test_equals_the_loops(dtype: torch.dtype) -> None:
    samples.check_against(SoftLabels(), lambda s, t: reference.soft(s.logits, t.logits), dtype)
    samples.check_against(SoftLabels.paper(), lambda s, t: reference.soft_paper(s.logits, t.logits), dtype)


def test_gradcheck() -> None:
    logits = samples.outputs(1).logits.requires_grad_()
    teacher = samples.outputs(2)
    assert torch.autograd.gradcheck(lambda x: SoftLabels()(Outputs(x), teacher), logits)


def test_variants() -> None:
    plain, paper, release = SoftLabels(), SoftLabels.paper(), SoftLabels.release()
    for loss in (plain, release):
        assert (loss.temperature, loss.task_weight, loss.weight, loss.decay, loss.clip) == (
            3,
            0.7,
            0.3,
            False,
            False,
        )
    assert (paper.temperature, paper.task_weight, paper.weight, paper.decay, paper.clip) == (
        1,
        1,
        1,
        True,
        False,
    )


def test_the_papers_form_is_least_at_the_teachers_entropy() -> None:
    x = samples.outputs(1)
    probabilities = x.logits.softmax(1)
    entropy = -(probabilities * probabilities.log()).sum(1).mean()
    value, gradient, *_ = samples.gradients(SoftLabels.paper(), x, x)
    assert float(value) == pytest.approx(float(entropy), rel=1e-12)
    assert float(gradient.abs().max()) < 1e-15


def test_extreme_logits_stay_finite() -> None:
    x, y = Outputs(torch.tensor([[1e4, -1e4, 0]])), Outputs(torch.tensor([[-1e4, 1e4, 0]]))
    for loss in (SoftLabels(), SoftLabels.paper()):
        assert all(bool(v.isfinite().all()) for v in samples.gradients(loss, x, y))


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_refuses_a_temperature(temperature: float) -> None:
    with pytest.raises(InputError, match=f"`temperature` must be a finite number above 0, got {temperature}"):
        SoftLabels(temperature=temperature)
