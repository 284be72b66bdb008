"""A loss from own code that fails: file, class and line are named before an epoch is lost."""

import pytest
import torch
from torch import nn

import rolewise as rw
from rolewise.data import Data
from rolewise.errors import InputError, InputTypeError
from rolewise.kd import load_loss

HEAD = """
import torch

from rolewise.kd import KDLoss


class Mine(KDLoss):
    needs_features = False

    def __init__(self, power=2):
        super().__init__()
        {init}

    def forward(self, student, teacher):
        {forward}
"""


def train(file, **arguments):
    def net():
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))

    images = torch.zeros(24, 4, 4, 3, dtype=torch.uint8)
    data = Data.from_arrays((images, torch.arange(24) % 3), (images, torch.arange(24) % 3))
    objective = rw.Distill(net().eval(), load_loss(f"{file}:Mine", **arguments))
    return rw.train(net(), data, epochs=1, batch_size=8, objective=objective)


@pytest.mark.parametrize(
    ("init", "forward", "words"),
    [
        (
            "1 / 0",
            "return 0",
            r"mine.py, line 12, in __init__ \(Mine\(power\)\): ZeroDivisionError: division by zero",
        ),
        (
            "pass",
            "return student.logit",
            r"mine.py, line 15, in forward \(Mine.forward\): AttributeError: 'Outputs'",
        ),
        (
            "pass",
            "return None",
            r"Mine.forward must return one floating-point number with a gradient.*got a NoneType",
        ),
        ("pass", "return 1.5", r"mine.py: Mine.forward must return .*, got a float\."),
        ("pass", "return student.logits", r"got a torch.float32 tensor of shape \(8, 3\)"),
        (
            "pass",
            "return (student.logits - teacher.logits).abs().mean().detach()",
            r"got a number without a gradient",
        ),
    ],
)
def test_what_an_own_loss_gets_wrong(tmp_path, init, forward, words):
    file = tmp_path / "mine.py"
    file.write_text(HEAD.format(init=init, forward=forward))
    with pytest.raises(InputError, match=words):
        train(file, power=1)


def test_an_own_loss_trains_and_a_function_is_none(tmp_path):
    file = tmp_path / "mine.py"
    text = HEAD.format(init="pass", forward="return (student.logits - teacher.logits).abs().mean()[None]")
    file.write_text(text + "\n\ndef make():\n    return Mine()\n")
    assert train(file).n == 24
    with pytest.raises(InputError, match='Unknown class "make"|must be a class, got a function'):
        load_loss(f"{file}:make")
    with pytest.raises(
        InputTypeError, match=r"cannot be made with these settings: got an unexpected keyword"
    ):
        load_loss(f"{file}:Mine", heat=1)
