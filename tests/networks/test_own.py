"""Networks from own code: built as they come, initialized by their own constructor, with taps and act points."""

import copy
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import rolewise as rw
from rolewise.errors import InputError, InputTypeError
from rolewise.kd.trial import try_network
from rolewise.networks.own import build_own
from rolewise.networks.propose import propose
from rolewise.population.transport import pack, unpack

FILE = Path(__file__).with_name("own_networks.py")
IMAGE = (3, 48, 48)


def own(name, **options):
    return build_own(f"{FILE}:{name}", num_classes=5, image=IMAGE, **options)


@pytest.mark.parametrize(
    ("name", "taps", "act_points", "unnamed"),
    [
        (
            "Torchvision",
            ("relu", "layer1", "layer2"),
            ("relu", "layer1.0.relu", "layer1.1.relu", "layer2.0.relu"),
            0,
        ),
        # stage2's last ReLU is its output; the ReLU of the difference after it is nobody's.
        ("Functional", ("stage1", "skip"), ("bn1", "stage1.bn1", "stage1", "stage2.bn1", "stage2"), 1),
        ("fixed", ("1",), ("1",), 0),
    ],
)
def test_taps_and_act_points_are_proposed(name, taps, act_points, unnamed):
    found = own(name)
    assert found.proposed == ("taps", "act_points")
    assert (found.proposal.taps, found.proposal.act_points, found.proposal.unnamed) == (
        taps,
        act_points,
        unnamed,
    )
    assert found.model.taps == taps
    assert f"self.act_points = {list(act_points)}" in found.note()
    assert ("1 ReLUs are functions" in found.note()) == (unnamed == 1)
    rw.quantize(found.model, 4, 4, skip=[])
    assert found.model(torch.zeros(1, *IMAGE)).shape == (1, 5)


def test_proposed_act_points_change_nothing_but_the_rounding():
    """At 8 bits the quantized network follows the float one whose ReLUs are clipped to [0, 1] at the same places."""
    found = own("Torchvision").model.eval()
    images = torch.rand(4, *IMAGE, generator=torch.Generator().manual_seed(0)) / 8
    clipped = copy.deepcopy(found)
    for name in found.act_points:
        clipped.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: output.clamp(0, 1))
    quantized = rw.quantize(copy.deepcopy(found), 32, 8, skip=[])
    with torch.no_grad():
        difference = (quantized(images) - clipped(images)).abs().max()
    assert 0 < difference < 0.05


def test_named_layers_are_kept():
    found = own("Named")
    assert found.note() is None
    assert (found.model.taps, found.model.act_points) == (("layer1",), ("relu", "layer1.0.relu"))


def test_proposing_changes_nothing():
    model = own("Torchvision").model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.layer1.eval()
    propose(model, torch.rand(2, *IMAGE))
    assert model.training
    assert not model.layer1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not [module for module in model.modules() if module._forward_hooks]


def test_weights_are_those_of_the_constructor_under_the_seed():
    first, again, other = (own("make", seed=seed, arguments={"width": 4}).model for seed in (1, 1, 2))
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    state = torch.get_rng_state()
    own("make")
    assert torch.equal(torch.get_rng_state(), state)
    assert first.architecture == {
        "name": None,
        "class": "Torchvision",
        "own": {
            "name": "make",
            "file": "own_networks.py",
            "sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(),
        },
        "arguments": {"width": 4, "num_classes": 5},
    }
    member = copy.deepcopy(first)
    member.reset(torch.Generator().manual_seed(3))
    assert not torch.equal(member.conv1.weight, first.conv1.weight)
    assert torch.equal(first.conv1.weight, again.conv1.weight)  # a copy's reset is the copy's
    kaiming = (2 / (4 * 7 * 7)) ** 0.5  # of fan_out, as the constructor says
    assert float(member.conv1.weight.detach().std()) == pytest.approx(kaiming, rel=0.1)


def test_it_travels_to_a_process_that_has_not_run_the_file(tmp_path):
    model = own("Functional").model
    (tmp_path / "net.bin").write_bytes(pack(model))
    program = (
        "import sys; from pathlib import Path; import torch; from rolewise.population.transport import unpack\n"
        f"model = unpack(Path({str(tmp_path / 'net.bin')!r}).read_bytes())\n"
        "model.reset(torch.Generator().manual_seed(0))\n"
        f"print(type(model.stage1).__qualname__, model.taps, tuple(model(torch.zeros(2, *{IMAGE})).shape))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "Functional.Stage ('stage1', 'skip') (2, 5)\n"
    assert type(unpack(pack(model))) is type(model)


@pytest.mark.parametrize(
    ("name", "options", "kind", "words"),
    [
        ("nothing", {}, InputError, 'Unknown class or function "nothing"'),
        ("make", {"arguments": {"depth": 3}}, InputTypeError, "cannot be called with .*'depth'"),
        (
            "make",
            {"arguments": {"width": -1}},
            InputError,
            r"own_networks.py, line \d+, in .* \(make\(.*\)\): Runtime",
        ),
        ("number", {}, InputTypeError, "must return a torch.nn.Module, got int"),
        ("empty", {}, InputError, "returns a Flatten without weights"),
        (
            "Fails",
            {},
            InputError,
            r"own_networks.py, line \d+, in forward \(a forward pass of Fails .*\): RuntimeError: mat1 and mat2",
        ),
    ],
)
def test_what_is_no_network(name, options, kind, words):
    with pytest.raises(kind, match=words):
        own(name, **options)


def test_another_number_of_classes_or_channels_is_said():
    model = own("fixed").model
    with pytest.raises(InputError, match=r"outputs of shape \(2, 5\), but the data have 7 classes"):
        try_network(model, torch.zeros(2, *IMAGE), classes=7)
    with pytest.raises(
        InputError, match=r"takes 3 channels and the images are gray \(1\): build the network for 1"
    ):
        try_network(model, torch.zeros(2, 1, 48, 48))
    with pytest.raises(
        InputError, match=r"Pair returns a tuple \(tensor \(2, 5\), list\) instead of one tensor"
    ):
        try_network(own("Pair").model, torch.zeros(2, *IMAGE))
    with pytest.raises(InputError, match=r"shape \(3, 5\) for 2 images"):
        try_network(nn.Sequential(nn.Flatten(), _Shape()), torch.zeros(2, *IMAGE))


class _Shape(nn.Module):
    def forward(self, x):
        return torch.zeros(3, 5)
