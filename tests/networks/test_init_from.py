"""Weights of one network for another, by name."""

import pytest
import torch
from torch import nn

from rolewise.errors import InputError
from rolewise.networks import build, init_from


def test_resnet8_takes_stem_first_blocks_and_classifier_of_resnet18():
    student, teacher = build("resnet8", seed=1), build("resnet18", seed=2)
    report = init_from(student, teacher)
    assert set(report.copied) == set(student.state_dict())
    assert report.missing == report.mismatched == ()
    assert all(name.split(".")[1] == "1" for name in report.unused)  # the second blocks
    assert len({name.split(".")[0] for name in report.unused}) == 4
    theirs = teacher.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in student.state_dict().items())
    student.conv1.weight.data.zero_()
    assert teacher.conv1.weight.any()  # copied, not shared


def test_what_does_not_match_is_told_and_kept():
    student, teacher = build("resnet8", num_classes=10, seed=1), build("resnet18", num_classes=100, seed=2)
    before = student.fc.weight.clone()
    report = init_from(student, teacher)
    assert report.mismatched == ("fc.weight", "fc.bias")
    assert torch.equal(student.fc.weight, before)
    # 12 convolutions, 12 BatchNorms of 5 tensors
    assert "2 of another shape (fc.weight, fc.bias)" in str(report)
    assert str(report).startswith("72 tensors copied; 0 not in the teacher;")
    deeper = init_from(build("resnet18"), build("resnet8"))
    assert (
        len(deeper.missing) == 4 * 2 * 6
    )  # the second blocks: two convolutions, two BatchNorms of 5 tensors
    assert all(".1." in name for name in deeper.missing)


def test_buffers_are_copied_too():
    student, teacher = build("cnn-tiny"), build("cnn-tiny")
    teacher.bn1.running_mean.fill_(3)
    teacher.bn1.num_batches_tracked.fill_(9)
    init_from(student, teacher)
    assert student.bn1.running_mean.eq(3).all()
    assert student.bn1.num_batches_tracked == 9


def test_nothing_in_common():
    with pytest.raises(
        InputError, match="No tensor of the teacher Sequential has a name and shape of the student ResNet"
    ):
        init_from(build("cnn-tiny"), nn.Sequential(nn.Linear(2, 2)))
