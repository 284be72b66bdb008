"""Variational information distillation."""

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.vid import VID


@pytest.mark.parametrize(("height", "high"), [(2, 4), (4, 3)])
def test_sizes(height: int, high: int) -> None:
    def expected(loss, s, t):
        return reference.vid(list(s.features), list(t.features), samples.state(loss), 0.1)

    arguments = {"eps": 0.1, "variance": 2.0}
    samples.assert_follows("vid", Case(expected, arguments, ((2, height, height),), ((3, high, high),)))


def test_the_variance_begins_where_it_should_and_the_minimum_is_known() -> None:
    loss = VID(variance=3.0)
    shapes = ((2, 2, 2),)
    student, teacher = samples.outputs(shapes, 1), samples.outputs(shapes, 2)
    loss.build(student, teacher, generator=torch.Generator(), images=4)
    with torch.no_grad():
        for layer in loss.means[0]:
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
    positive = samples.Outputs(student.logits, (student.features[0].abs(),))
    # The mean is right everywhere: log(3) / 2 is left.
    torch.testing.assert_close(loss(positive, positive), torch.tensor(3.0).double().log() / 2)


def test_large_parameters_of_the_variance_do_not_overflow() -> None:
    case = samples.CASES["vid"]
    loss = samples.made("vid", case, dtype=torch.float32)
    with torch.no_grad():
        loss.alphas[0].fill_(500.0)
        loss.alphas[1].fill_(-500.0)
    student, teacher = samples.pair(case, dtype=torch.float32)
    value = loss(student, teacher)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(p.grad).all() for p in loss.parameters())


def test_arguments() -> None:
    with pytest.raises(InputError, match="`variance - eps` must be a finite number above 0"):
        VID(variance=1e-6)
