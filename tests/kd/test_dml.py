"""Deep mutual learning: golden value, the float64 loops, symmetry."""

import paper_samples as samples
import pytest
import torch
from paper_samples import reference

from rolewise.kd import DML, Outputs
from rolewise.kd.dml import mutual_loss


def test_golden_value() -> None:
    teacher = torch.tensor([[2, 0, -1], [0, 1, 3]], dtype=torch.float64)
    student = torch.tensor([[1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    assert float(DML()(Outputs(student), Outputs(teacher))) == pytest.approx(0.2188046707, abs=2e-10)


@pytest.mark.parametrize("dtype", samples.TOLERANCE)
def test_equals_the_loops(dtype: torch.dtype) -> None:
    samples.check_against(DML(), lambda s, t: reference.dml(s.logits, t.logits), dtype)


def test_gradcheck() -> None:
    logits = samples.outputs(1).logits.requires_grad_()
    teacher = samples.outputs(2)
    assert torch.autograd.gradcheck(lambda x: DML()(Outputs(x), teacher), logits)


def test_symmetric_and_both_sides_can_learn() -> None:
    x, y = samples.outputs(1).logits.requires_grad_(), samples.outputs(2).logits.requires_grad_()
    loss = mutual_loss(x, y)
    assert float(loss.detach()) == pytest.approx(float(mutual_loss(y, x).detach()), rel=1e-12)
    assert all(float(g.abs().max()) > 0 for g in torch.autograd.grad(loss, (x, y)))


def test_states_how_it_is_used() -> None:
    for loss in (DML(), DML.paper(), DML.release()):
        assert (loss.task_weight, loss.weight, loss.decay, loss.clip) == (1, 1, True, False)
        assert not loss.needs_features


def test_extreme_logits_stay_finite() -> None:
    x, y = Outputs(torch.tensor([[1e4, -1e4, 0]])), Outputs(torch.tensor([[-1e4, 1e4, 0]]))
    assert all(bool(v.isfinite().all()) for v in samples.gradients(DML(), x, y))
