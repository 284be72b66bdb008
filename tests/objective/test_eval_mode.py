"""A look at a network leaves each module in the mode in which its owner had put it."""

import pytest
import torch
from torch import nn

from rolewise.data import Split
from rolewise.kd import LOSSES
from rolewise.objective import Distill
from rolewise.objective.forward import eval_mode
from rolewise.trainer import Trainer, TrainSettings, evaluate

HALF = (0.5, 0.5, 0.5)


def network() -> nn.Module:
    """In training mode, its first batch normalization frozen."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    net.train()
    net[1].eval()
    return net


def split() -> Split:
    images = torch.randint(
        0, 256, (8, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return Split(images, torch.arange(8) % 2, torch.arange(8), ("a", "b"), HALF, HALF)


SETTINGS = TrainSettings(1, batch_size=4, precision="fp32", crop=0)


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


def test_each_module_is_as_before():
    net = network()
    before = modes(net)
    with eval_mode(net):
        assert not any(modes(net))
    assert modes(net) == before
    with pytest.raises(RuntimeError), eval_mode(net):
        net(torch.zeros(1, 5, 8, 8))
    assert modes(net) == before


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_an_evaluation_leaves_frozen_layers_frozen(batch_statistics: bool):
    net = network()
    before = modes(net)
    evaluate(
        net, split(), mean=HALF, std=HALF, placement=SETTINGS.placement(), batch_statistics=batch_statistics
    )
    assert modes(net) == before


def test_a_trainer_and_an_objective_leave_them_frozen_and_an_epoch_does_not():
    net = network()
    before = modes(net)
    task = Distill(network().eval(), LOSSES["soft"]())
    trainer = Trainer(net, task, split(), SETTINGS)
    assert modes(net) == before
    trainer.train_epoch()
    assert all(modes(net))
