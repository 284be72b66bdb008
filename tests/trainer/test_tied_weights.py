"""A parameter that two layers share is updated once a step."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from rolewise.trainer import TrainSettings
from rolewise.trainer.optimizer import make_optimizer


def test_a_shared_weight_moves_as_under_pytorchs_own_optimizer():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    net[2].weight = net[0].weight
    plain = copy.deepcopy(net)
    settings = TrainSettings(1, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01)
    ours = make_optimizer(net, [], settings)
    assert sorted(len(group["params"]) for group in ours.param_groups) == [3]
    theirs = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    images = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        for model, optimizer in ((net, ours), (plain, theirs)):
            optimizer.zero_grad()
            F.cross_entropy(model(images), torch.arange(16) % 8).backward()
            optimizer.step()
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
