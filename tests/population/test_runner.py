"""The weights that members begin with."""

import pytest
import torch
from torch import nn

from rolewise.errors import InputError
from rolewise.population.runner import check_resettable, reinitialize
from rolewise.seeds import torch_generator


class Resets(nn.Module):
    """Draws its weights itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))
        self.norm = nn.BatchNorm1d(4)

    def reset(self, generator):
        with torch.no_grad():
            self.weight.copy_(torch.rand(4, generator=generator))
        self.norm.reset_parameters()


class Layers(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 2))


class Bare(nn.Module):
    """Its own parameter, which nothing resets."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def numbers(model):
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


def test_a_networks_own_reset_is_called_with_the_streams_generator():
    model = Resets()
    reinitialize(model, 7, "init", "teacher", 3)
    expected = torch.rand(4, generator=torch_generator(7, "init", "teacher", 3))
    assert torch.equal(model.weight, expected)


@pytest.mark.parametrize("kind", [Resets, Layers])
def test_the_key_decides_and_nothing_else_does(kind):
    first, second = kind(), kind()
    reinitialize(first, 7, "init", "teacher", 3)
    torch.rand(5)
    reinitialize(second, 7, "init", "teacher", 3)
    assert torch.equal(numbers(first), numbers(second))
    reinitialize(second, 7, "init", "teacher", 4)
    assert not torch.equal(numbers(first), numbers(second))


def test_buffers_start_from_scratch():
    model = Layers()
    model[1].running_mean.fill_(5.0)
    model[1].num_batches_tracked.fill_(5)
    reinitialize(model, 0)
    assert torch.equal(model[1].running_mean, torch.zeros(4))
    assert model[1].num_batches_tracked == 0


def test_torchs_generator_is_left_as_it_was():
    model = Layers()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    reinitialize(model, 1)
    assert torch.equal(torch.rand(3), expected)


def test_layers_are_drawn_as_torch_draws_them():
    """Bounds of torch's own initialization: uniform within 1 / sqrt(fan in)."""
    model = nn.Linear(100, 50)
    reinitialize(model, 1)
    weight = model.weight.detach()
    assert 0.09 < float(weight.abs().max()) <= 0.1
    assert float(weight.std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)


def test_layers_that_cannot_be_drawn_are_all_named():
    model = nn.ModuleDict({"good": nn.Linear(1, 1), "bad": Bare(), "worse": nn.Sequential(Bare())})
    with pytest.raises(InputError, match=r'"bad" \(Bare\), "worse.0" \(Bare\).*init="given"'):
        check_resettable(model)
    with pytest.raises(InputError, match="these layers no `reset_parameters`: Bare"):
        reinitialize(Bare(), 1)
    check_resettable(Resets())
