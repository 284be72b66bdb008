"""Flow of the solution procedure."""

from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, reference

from rolewise.errors import InputError
from rolewise.kd.fsp import FSP


def test_sizes_may_differ_between_the_networks() -> None:
    student, teacher = ((2, 4, 4), (3, 2, 2), (2, 2, 3)), ((2, 2, 2), (3, 4, 2), (2, 1, 1))
    case = Case(lambda _, s, t: reference.fsp(list(s.features), list(t.features)), {}, student, teacher)
    samples.assert_follows("fsp", case)


def test_zero_at_equality_and_where_positions_are_permuted() -> None:
    shapes = ((3, 2, 2), (4, 2, 2))
    student = samples.outputs(shapes, 1)
    assert FSP()(student, student) == 0
    teacher = replace(student, features=tuple(f.flip(2, 3) for f in student.features))
    assert FSP()(student, teacher) < 1e-30


def test_constant_maps_in_closed_form() -> None:
    def maps(a: float, b: float) -> samples.Outputs:
        return samples.Outputs(torch.zeros(2, 2), (torch.full((2, 1, 4, 4), a), torch.full((2, 1, 2, 2), b)))

    assert FSP()(maps(2.0, 3.0), maps(1.0, 4.0)) == 4  # (6 - 4)^2


def test_other_channels_and_a_single_map_are_refused() -> None:
    student, teacher = samples.outputs(samples.STUDENT, 1), samples.outputs(samples.TEACHER, 2)
    message = r"FSP compares channels one by one: student features\[0\] has 3, teacher features\[0\] has 4"
    with pytest.raises(InputError, match=message):
        FSP()(student, teacher)
    one = replace(student, features=student.features[:1])
    with pytest.raises(InputError, match="FSP needs at least 2 feature maps of each network, got 1"):
        FSP()(one, one)
