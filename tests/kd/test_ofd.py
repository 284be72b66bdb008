"""Overhaul of feature distillation."""

import copy
from dataclasses import replace

import further_samples as samples
import pytest
import torch
from further_samples import Case, Teacher

from rolewise.errors import InputError
from rolewise.kd._images import normalized
from rolewise.kd.base import collect
from rolewise.kd.ofd import OFD

ONE = ((1, 2, 2),)


def test_sizes() -> None:
    case = replace(samples.CASES["ofd"], student=((2, 4, 4), (3, 2, 2)), teacher=((2, 2, 2), (3, 4, 4)))
    samples.assert_follows("ofd", case)


def test_margins_are_the_mean_negative_response_of_each_channel() -> None:
    teacher, split = Teacher(samples.TEACHER), samples.split(20)
    with torch.no_grad():
        teacher.map1.weight[2], teacher.map1.bias[2] = 0, 1  # never negative
    before = copy.deepcopy(teacher.state_dict())
    loss = OFD()
    loss.prepare(teacher, split)
    maps = collect(teacher, normalized(split.images, split, torch.device("cpu")), teacher.taps).features
    expected = []
    for feature in maps:
        for channel in feature.detach().double().unbind(1):
            negatives = [v for v in channel.flatten().tolist() if v < 0]
            expected.append(sum(negatives) / len(negatives) if negatives else 0.0)
    torch.testing.assert_close(loss.margins, torch.tensor(expected), rtol=1e-6, atol=1e-7)
    assert loss.margins[4 + 2] == 0
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())


def test_margins_of_a_few_images_evenly_spaced() -> None:
    teacher, split = Teacher(samples.TEACHER), samples.split(10)
    few, same = OFD(margin_images=4), OFD()
    few.prepare(teacher, split)
    split.images = split.images[[0, 2, 5, 7]]
    same.prepare(teacher, split)
    assert torch.equal(few.margins, same.margins)


def direct(student: list[float], teacher: list[float], margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of one channel without connector, and the student's gradient."""
    s, t = (torch.tensor(v).view(1, 1, 1, -1) for v in (student, teacher))
    s.requires_grad_(True)
    x, y = (samples.Outputs(torch.zeros(1, 2), (f,)) for f in (s, t))
    loss = OFD()
    loss.margins = torch.tensor([margin])
    loss.build(x.detach(), y, generator=torch.Generator(), images=1)
    loss.connectors[0] = torch.nn.Identity()
    value = loss(x, y)
    value.backward()
    return value.detach(), s.grad.flatten()


def test_what_counts_in_closed_form() -> None:
    # Below the negative target: nothing. Above it: the square. A positive target always counts.
    student, teacher = [-3.0, 0.5, -1.0, 1.0, -0.2], [-2.0, -2.0, 2.0, 2.0, -0.5]
    value, gradient = direct(student, teacher, -1.0)
    torch.testing.assert_close(value, torch.tensor(1.5**2 + 3**2 + 1 + 0.3**2))
    torch.testing.assert_close(gradient, torch.tensor([0.0, 3.0, -6.0, -2.0, 0.6]))


def test_behind_a_relu_the_student_is_only_asked_to_be_silent() -> None:
    value, gradient = direct([-3.0, 0.5, 0.0], [0.0, 0.0, 0.0], 0.0)
    assert value == 0.25
    assert torch.equal(gradient, torch.tensor([0.0, 1.0, 0.0]))


def test_zero_at_equality() -> None:
    value, _ = direct([-0.5, 0.5, 2.0], [-0.5, 0.5, 2.0], -1.0)
    assert value == 0


def test_what_is_missing_is_named() -> None:
    case = samples.CASES["ofd"]
    student, teacher = samples.pair(case)
    loss = OFD()
    loss.build(student.detach(), teacher, generator=torch.Generator(), images=4)
    with pytest.raises(InputError, match=r"OFD needs its margins: call `prepare\(teacher, split\)` first"):
        loss(student, teacher)
    loss.prepare(Teacher(ONE), samples.split())
    with pytest.raises(InputError, match="OFD has margins for 1 channels, the teacher's maps have 9"):
        loss(student, teacher)
    with pytest.raises(InputError, match="is in training mode"):
        loss.prepare(Teacher(ONE).train(), samples.split())


def test_what_was_prepared_goes_into_a_fresh_object() -> None:
    prepared, fresh = OFD(), OFD()
    prepared.prepare(Teacher(samples.TEACHER), samples.split())
    assert not fresh.prepared
    fresh.restore(prepared.state_dict())
    assert fresh.prepared
    assert torch.equal(fresh.margins, prepared.margins)
    with pytest.raises(InputError, match="These tensors do not fit OFD"):
        OFD().restore({"heads": torch.zeros(2)})


def test_arguments() -> None:
    with pytest.raises(InputError, match="`margin_images` must be an integer at least 1, got 0"):
        OFD(margin_images=0)


def test_the_case_has_margins_on_both_sides_of_zero() -> None:
    margins = samples.made("ofd", Case(samples.CASES["ofd"].reference)).margins
    assert margins.min() < 0
