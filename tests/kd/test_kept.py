"""Taps are what the tapped modules returned, whatever the network does with it afterwards."""

import copy

import pytest
import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.kd.base import collect, tap_names
from rolewise.kd.kept import may_be_overwritten


class Net(nn.Module):
    """`norm` is written into by an in-place ReLU, `conv` by `+=`, `last` by nobody."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(3), nn.ReLU(inplace)
        self.conv, self.last, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1), nn.Linear(3, 4)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        kept = self.relu(self.norm(x))
        out = self.conv(kept)
        if self.inplace:
            out += kept
        else:
            out = out + kept
        return self.fc(self.last(out).mean((2, 3)))


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = Net(False)
    inplace = Net(True)
    inplace.load_state_dict(plain.state_dict())
    return plain.eval(), inplace.eval()


X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TAPS = ("norm", "conv", "last")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_in_place_networks_give_the_taps_of_the_others(mode: type):
    plain, inplace = pair()
    for _ in range(3):
        with mode():
            expected, found = collect(plain, X, TAPS), collect(inplace, X, TAPS)
        assert torch.equal(found.logits, expected.logits)
        for one, other in zip(found.features, expected.features, strict=True):
            assert torch.equal(one, other)
    if mode is not torch.inference_mode:
        assert [may_be_overwritten(inplace.get_submodule(name)) for name in TAPS] == [True, True, False]
        assert not any(may_be_overwritten(plain.get_submodule(name)) for name in TAPS)


def test_gradients_are_those_of_the_network_that_is_not_in_place():
    gradients = []
    for model in pair():
        seen = collect(model, X, TAPS)
        (seen.logits.sum() + sum(feature.square().sum() for feature in seen.features)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_what_was_not_written_into_is_no_copy_from_the_second_pass_on():
    plain, _ = pair()
    returned: list[Tensor] = []
    plain.last.register_forward_hook(lambda _m, _i, output: returned.append(output))
    kept = [collect(plain, X, ["last"]).features[0] for _ in range(2)]
    assert kept[0] is not returned[0]
    assert kept[1] is returned[1]


def test_a_module_that_is_overwritten_in_training_alone_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5, inplace=True), nn.Flatten(), nn.Linear(192, 4))
    model.eval()
    collect(model, X, ["0"])
    with pytest.raises(
        InputError, match='The output of the tap "0" was overwritten by an in-place operation'
    ):
        collect(model.train(), X, ["0"])


def test_a_module_registered_twice_is_tapped_by_either_name():
    conv = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(conv, nn.ReLU(), conv, nn.Flatten())
    assert tap_names(model, ["2"]) == ("2",)
    one, two = (collect(copy.deepcopy(model), X, [name]).features[0] for name in ("0", "2"))
    assert torch.equal(one, two)
