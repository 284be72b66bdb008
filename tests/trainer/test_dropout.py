"""Networks that draw random numbers, such as dropout: keyed like everything else, however often they run."""

import pytest
import torch
from small_training import split
from torch import nn

from rolewise.errors import Interrupted
from rolewise.objective import CrossEntropy
from rolewise.trainer import State, Trainer, teacher_settings


class Dropping(nn.Module):
    """Remembers which channels each step dropped."""

    def __init__(self):
        super().__init__()
        self.conv, self.drop, self.fc = nn.Conv2d(3, 8, 3, stride=2), nn.Dropout(0.5), nn.Linear(8, 10)
        self.masks = []

    def forward(self, x):
        x = self.conv(x).relu().mean((2, 3)) + 1
        dropped = self.drop(x)
        if self.training:
            self.masks.append(dropped == 0)
        return self.fc(dropped)


def trainer(seed=0, role="teacher", member=None, should_stop=None):
    torch.manual_seed(3)
    settings = teacher_settings(2, batch_size=16, precision="fp32", lr=0.05)
    return Trainer(
        Dropping(),
        CrossEntropy(),
        split(64),
        settings,
        seed=seed,
        role=role,
        member=member,
        should_stop=should_stop,
    )


def masks(one):
    return torch.stack(one.model.masks)


def test_the_same_key_drops_the_same_whatever_was_drawn_before():
    one, two = trainer(), trainer()
    one.train_epoch()
    torch.rand(1000)
    two.train_epoch()
    assert torch.equal(masks(one), masks(two))
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, two.model.state_dict()[name])


def test_every_step_epoch_member_and_seed_drops_otherwise():
    found = []
    for choice in ({}, {"seed": 1}, {"role": "student"}, {"member": 0}, {"member": 1}):
        one = trainer(**choice)
        one.train_epoch()
        one.train_epoch()
        found += list(masks(one))
    assert len(found) == 5 * 8
    assert len({mask.numpy().tobytes() for mask in found}) == len(found)
    share = torch.stack(found).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.03)  # 5120 draws: 4 standard deviations


def test_an_interrupted_epoch_ends_as_a_whole_one():
    whole = trainer()
    whole.train_epoch()
    asked = []
    parted = trainer(should_stop=lambda: len(asked) == 2 or asked.append(1) is not None)
    with pytest.raises(Interrupted):
        parted.train_epoch()
    state = State.from_bytes(parted.state().to_bytes())
    rest = trainer()
    rest.load_state(state)
    rest.train_epoch()
    assert torch.equal(torch.cat([masks(parted), masks(rest)]), masks(whole))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name])


def test_the_callers_random_numbers_go_on_as_before():
    one = trainer()
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    one.train_epoch()
    assert torch.equal(torch.rand(4), expected)
