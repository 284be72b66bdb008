"""Knowledge review."""

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.reviewkd import ReviewKD


def expected(loss, s, t):
    return reference.reviewkd(list(s.features), list(t.features), samples.state(loss))


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (((2, 5, 5), (3, 3, 3)), ((2, 5, 5), (2, 3, 3))),  # a full map and its averages
        (((2, 2, 2), (3, 2, 2)), ((3, 4, 4), (2, 1, 1))),  # other sizes on either side
        (((2, 3, 2),), ((2, 2, 3),)),  # not square
    ],
)
def test_sizes(student: samples.Shapes, teacher: samples.Shapes) -> None:
    samples.assert_follows("reviewkd", Case(expected, {"width": 2}, student, teacher))


def test_the_width_is_that_of_the_last_map_at_most() -> None:
    case = samples.CASES["reviewkd"]
    assert [f.enter[0].out_channels for f in samples.made("reviewkd", case).fusions] == [4, 4, 4]
    narrow = samples.made("reviewkd", Case(case.reference, {"width": 2}))
    assert [f.enter[0].out_channels for f in narrow.fusions] == [2, 2, 2]
    assert [f.attention is None for f in narrow.fusions] == [True, False, False]


def test_zero_where_every_level_is_predicted() -> None:
    case = samples.CASES["reviewkd"]
    loss = samples.made("reviewkd", case)
    with torch.no_grad():
        for fusion in loss.fusions:
            fusion.leave[1].weight.zero_()
            fusion.leave[1].bias.fill_(2.0)
    student, teacher = samples.pair(case)
    constant = samples.Outputs(teacher.logits, tuple(torch.full_like(f, 2.0) for f in teacher.features))
    assert loss(student, constant) == 0


def test_arguments() -> None:
    with pytest.raises(InputError, match="`width` must be an integer at least 1, got 0"):
        ReviewKD(width=0)
