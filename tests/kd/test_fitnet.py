"""FitNets' hints."""

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.fitnet import FitNet

SIZES = {"half": (4, 2), "twice": (2, 4), "equal": (2, 2), "less": (5, 2), "more": (2, 3)}


@pytest.mark.parametrize("kind", SIZES)
def test_every_change_of_size(kind: str) -> None:
    height, high = SIZES[kind]

    def expected(loss, s, t):
        return reference.fitnet(list(s.features), list(t.features), samples.state(loss), 0)

    samples.assert_follows("fitnet", Case(expected, {}, ((2, height, height),), ((3, high, high),)))


def test_zero_where_the_prediction_is_right() -> None:
    case = samples.CASES["fitnet"]
    loss = samples.made("fitnet", case)
    student, teacher = samples.pair(case)
    right = loss.regressor(student.features[1]).detach()
    target = samples.Outputs(teacher.logits, (teacher.features[0], right))
    assert loss(student, target) == 0


@pytest.mark.parametrize(("count", "middle"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_the_hint_is_the_middle_layer(count: int, middle: int) -> None:
    shapes = ((2, 2, 2),) * count
    loss = FitNet()
    loss.build(samples.outputs(shapes, 1), samples.outputs(shapes, 2), generator=torch.Generator(), images=4)
    loss.double()
    student, teacher = samples.pair(Case(lambda *_: torch.zeros(()), {}, shapes, shapes))
    loss(student, teacher).backward()
    assert [i for i, f in enumerate(student.features) if f.grad is not None] == [middle]


def test_a_layer_out_of_range_is_named() -> None:
    student, teacher = samples.pair(samples.CASES["fitnet"])
    with pytest.raises(
        InputError, match=r"`layer` must be an index into the 2 feature maps \(-2 to 1\), got 2"
    ):
        FitNet(layer=2)(student, teacher)
