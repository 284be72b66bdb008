"""Networks made low-bit in place: what is quantized, what stays, and what is refused."""

import ast
import copy
import pickle
import re
import subprocess
import sys
from collections import OrderedDict

import dorefa_networks as reference
import pytest
import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.kd.base import collect
from rolewise.networks import build, init_from
from rolewise.quant import (
    LayerBits,
    apply_quantization,
    quantization,
    quantize,
    quantize_activation,
    quantize_weight,
    quantized_layers,
    remove_quantizers,
)
from rolewise.quant.activations import quantized_activations
from rolewise.quant.layers import quantized_weights


def images(n: int = 4, size: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def settled(model: nn.Module) -> nn.Module:
    """With running averages that fit, so that activations are not all 0 or all 1."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the plain mean
    model.train()
    with torch.no_grad():
        model(images(16, seed=1))
    return model.eval()


class Block(nn.Module):
    """A basic block in torchvision's manner: one ReLU module for both places, written in place."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class Own(nn.Module):
    """A user's network: no taps, no act points, no architecture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(Block(8, 8, 1), Block(8, 8, 1))
        self.layer2 = nn.Sequential(Block(8, 16, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", 2), ("resnet8", 1)])
@pytest.mark.parametrize("bits", [(2, 2), (4, 4), (32, 32)])
def test_resnets_equal_the_plain_functions(name: str, blocks: int, bits: tuple[int, int]):
    """In float64, so that no rounding falls on the other side."""
    model = settled(quantize(build(name), *bits)).double()
    logits, maps = reference.resnet(model.state_dict(), images(2), blocks, *bits)
    with torch.no_grad():
        found = collect(model, images(2).double(), model.taps)
    torch.testing.assert_close(found.logits, logits, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(found.features, maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_alexnet_equals_the_plain_functions():
    model = settled(quantize(build("alexnet"), 4, 2)).double()
    logits, maps = reference.alexnet(model.state_dict(), images(2), 4, 2)
    with torch.no_grad():
        found = collect(model, images(2).double(), model.taps)
    torch.testing.assert_close(found.logits, logits, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(found.features, maps, strict=True):
        assert torch.equal(ours, theirs)
        assert len(ours.unique()) <= 4  # AlexNet's taps are quantized


@pytest.mark.parametrize(
    ("name", "tensors", "weights", "activations"),
    [("resnet18", 19, 11_157_504, 16), ("alexnet", 6, 35_999_744, 6)],
)
def test_counts_of_the_paper(name: str, tensors: int, weights: int, activations: int):
    model = quantize(build(name), 4, 4)
    layers = quantized_weights(model)
    assert len(layers) == tensors
    assert sum(layer.weight.numel() for layer in layers.values()) == weights
    assert len(quantized_activations(model)) == activations


def test_first_and_last_layer_stay_and_identity_shortcuts_carry_levels():
    plain = settled(build("resnet18"))
    model = quantize(copy.deepcopy(plain), 2, 2)
    assert type(model.conv1) is nn.Conv2d
    assert type(model.fc) is nn.Linear
    assert torch.equal(model.conv1.weight, plain.conv1.weight)
    assert torch.equal(model.fc.weight, plain.fc.weight)
    with torch.no_grad():
        entries = collect(model, images(), ["layer1.1.act_in", "layer2.1.act_in", "layer1.0.act"]).features
        taps = collect(model, images(), model.taps).features
    levels = torch.arange(4) / 3
    for entry in entries:
        assert torch.isin(entry, levels).all()
        assert len(entry.unique()) > 1
    for tap in taps:  # a ResNet's taps lie before the next quantizer
        assert len(tap.unique()) > 1000


def test_names_of_tensors_stay_and_a_teacher_loads_by_name():
    teacher = build("resnet8-small", seed=1)
    student = quantize(build("resnet8-small", seed=2), 2, 2)
    assert list(student.state_dict()) == list(teacher.state_dict())
    report = init_from(student, teacher)
    assert report.missing == report.mismatched == report.unused == ()
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, teacher.state_dict()[name])


@pytest.mark.parametrize("method", ["dorefa", "lsq", "pact"])
def test_copies_and_pickles_compute_the_same(method: str):
    model = settled(quantize(build("cnn-tiny"), 3, 2, method=method, grad_bits=8))
    fresh = quantize(build("cnn-tiny", seed=5), 3, 2, method=method, grad_bits=8)
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        logits = model(images())
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh.eval()):
            assert torch.equal(other(images()), logits)
            assert quantization(other) == quantization(model)
    other.load_state_dict(build("cnn-tiny", seed=9).state_dict(), strict=False)
    with torch.no_grad():
        assert torch.equal(model(images()), logits)  # the copies share nothing


def test_32_bits_equal_the_float_network():
    plain = settled(build("resnet8-small"))
    model = quantize(copy.deepcopy(plain), 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images()), plain(images()))
    assert not quantized_layers(model)
    assert quantization(model)["weight_bits"] == 32
    half = quantize(copy.deepcopy(plain), 32, 4)
    assert not quantized_weights(half)
    assert len(quantized_activations(half)) == 6


def test_the_quantized_layer_uses_the_quantized_weight_and_trains_the_float_one():
    model = quantize(build("cnn-tiny"), 2, 2)
    conv = model.layer1[0].conv1
    x = torch.rand(1, 8, 5, 5)
    expected = nn.functional.conv2d(x, quantize_weight(conv.weight, 2), padding=1)
    assert torch.equal(conv(x), expected)
    conv(x).square().sum().backward()
    assert conv.weight.grad.abs().sum() > 0
    assert isinstance(conv.weight, nn.Parameter)
    linear = quantize(nn.Sequential(nn.Linear(4, 3)), 4, 32, skip=[])[0]
    x = torch.rand(2, 4)
    assert torch.equal(linear(x), nn.functional.linear(x, quantize_weight(linear.weight, 4), linear.bias))


def test_padding_modes_and_groups_are_kept():
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=2, padding_mode="reflect")
    model = quantize(nn.Sequential(copy.deepcopy(conv)), 4, 32, skip=[])
    with torch.no_grad():
        conv.weight.copy_(quantize_weight(conv.weight, 4))
    x = torch.rand(1, 4, 9, 9)
    assert torch.equal(model(x), conv(x))


def test_a_users_network_with_names_given():
    points = ["relu", "layer1.0.relu", "layer1.1.relu", "layer2.0.relu"]
    model = settled(quantize(Own(), 2, 2, act_points=points))
    assert len(quantized_weights(model)) == 7  # of nine layers, first and last stay
    taps = collect(model, images(), ["maxpool", "layer1", "layer2"]).features
    for tap in taps:
        assert len(tap.unique()) <= 4
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert torch.equal(copied(images()), model(images()))


def test_any_other_module_quantizes_what_it_returns():
    plain = settled(Own())
    model = quantize(copy.deepcopy(plain), 32, 3, act_points=["layer1", "maxpool", "bn1"])
    reached: list[Tensor] = []
    handle = model.layer2.register_forward_pre_hook(lambda _module, inputs: reached.append(inputs[0]))
    with torch.no_grad():
        model(images())
        x = quantize_activation(plain.bn1(plain.conv1(images())), 3)
        x = quantize_activation(plain.maxpool(plain.relu(x)), 3)
        expected = quantize_activation(plain.layer1(x), 3)
        found = collect(model, images(), ["layer1"]).features[0]
    assert torch.equal(found, expected)  # a tap on an act point sees the quantized value
    assert torch.equal(reached[0], expected)
    handle.remove()
    assert torch.equal(pickle.loads(pickle.dumps(model))(images()), model(images()))


def test_mixed_precision_by_name():
    model = quantize(
        build("resnet8-small"),
        2,
        4,
        layers={"layer1": 8, "layer1.0.conv2": (3, 8), "fc": 8, "layer2": (32, 2)},
    )
    bits = quantized_layers(model)
    assert bits["layer1.0.conv1"] == LayerBits(weights=8)
    assert bits["layer1.0.conv2"] == LayerBits(weights=3)
    assert bits["layer1.0.act"] == LayerBits(activations=8)
    assert bits["fc"] == LayerBits(weights=8)
    assert "conv1" not in bits
    assert "layer2.0.conv1" not in bits
    assert bits["layer2.0.act_in"] == LayerBits(activations=2)
    assert bits["layer3.0.conv1"] == LayerBits(weights=2)
    assert bits["layer3.0.act"] == LayerBits(activations=4)
    assert list(bits) == [name for name, _ in model.named_modules() if name in bits]


def test_skip():
    every = quantize(build("cnn-tiny"), 2, 2, skip=[])
    assert {"conv1", "fc"} < set(quantized_weights(every))
    some = quantize(build("cnn-tiny"), 2, 2, skip=["layer1", "fc"])
    assert set(quantized_weights(every)) - set(quantized_weights(some)) == {
        "layer1.0.conv1",
        "layer1.0.conv2",
        "fc",
    }


def test_the_description_repeats_the_quantization():
    model = settled(quantize(build("cnn-tiny"), 2, 4, layers={"layer1": 8}, method="lsq"))
    other = apply_quantization(build("cnn-tiny", seed=3), quantization(model))
    other.load_state_dict(model.state_dict())
    assert quantized_layers(other) == quantized_layers(model)
    assert torch.equal(other.eval()(images()), model(images()))


@pytest.mark.parametrize("method", ["dorefa", "lsq", "pact"])
def test_quantizers_can_be_removed(method: str):
    plain = settled(Own())
    model = quantize(
        copy.deepcopy(plain), 2, 2, ["relu", "layer1.0.relu", "layer2"], method=method, grad_bits=4
    )
    assert not torch.equal(model(images()), plain(images()))
    back = remove_quantizers(model)
    assert torch.equal(back(images()), plain(images()))
    assert list(back.state_dict()) == list(plain.state_dict())
    assert quantization(back) is None
    assert [type(module) for module in back.modules()] == [type(module) for module in plain.modules()]


def test_autocast_and_channels_last_train():
    model = quantize(build("cnn-tiny"), 2, 2).to(memory_format=torch.channels_last)
    x = images(8).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    for _ in range(15):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
        loss = nn.functional.cross_entropy(logits.float(), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_dynamo_takes_the_whole_network():
    """One graph, forward and backward. A process of its own: dynamo does not look through the checks of shapes.

    The back end that compiles kernels is left out; it takes half a minute.
    """
    script = """
import copy, torch
from rolewise.networks import build
from rolewise.quant import quantize
x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
model = quantize(build("cnn-tiny"), 2, 2)
compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
for network in (model, compiled):
    network(x).square().sum().backward()
for one, other in zip(model.parameters(), compiled.parameters(), strict=True):
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
print("same", len(list(model.parameters())))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert found.stdout.startswith("same 29"), found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_bits": 9}, "`weight_bits` must be 1 to 8, or 32"),
        ({"act_bits": 0}, "`act_bits` must be 1 to 8, or 32"),
        ({"grad_bits": 16}, "`grad_bits` must be 1 to 8, or 32"),
        ({"act_points": ["layer1.0.akt"]}, 'Unknown act point "layer1.0.akt".*Did you mean "layer1.0.act"?'),
        ({"skip": ["conf1"]}, 'Unknown layer in `skip` "conf1".*Did you mean "conv1"?'),
        ({"skip": "conv1"}, '`skip` must be a list of names, got "conv1". Write skip=\\["conv1"\\]'),
        ({"layers": {"layer9": 4}}, 'Unknown layer or act point in `layers` "layer9"'),
        ({"layers": {"fc": 12}}, r'`layers\["fc"\]` must be 1 to 8, or 32'),
        ({"layers": {"fc": (1, 2, 3)}}, "must be one bit-width or \\(weights, activations\\)"),
        ({"skip": ["fc"], "layers": {"fc": 8}}, '"fc" is both in `skip` and in `layers`'),
        ({"method": "dorefo"}, 'Unknown quantization method "dorefo".*Did you mean "dorefa"?'),
        ({"method": "lsq", "weight_bits": 1}, '`weight_bits` must be 2 to 8 or 32 with method="lsq", got 1'),
        ({"weight_bits": 32, "grad_bits": 4}, "`grad_bits` is for layers with quantized weights"),
    ],
)
def test_bad_input(arguments: dict[str, object], message: str):
    model = build("cnn-tiny")
    before = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(InputError, match=message):
        quantize(model, **{"weight_bits": 4, "act_bits": 4, **arguments})
    assert {name: type(module) for name, module in model.named_modules()} == before  # nothing half done


def test_a_network_is_quantized_once():
    with pytest.raises(InputError, match="quantized already"):
        quantize(quantize(build("cnn-tiny"), 4, 4), 2, 2)


def test_a_network_without_act_points_asks_for_them():
    with pytest.raises(InputError, match="Own states no `act_points`.*Its ReLUs are: relu, layer1.0.relu"):
        quantize(Own(), 4, 4)
    assert len(quantized_weights(quantize(Own(), 4, 32))) == 7
    assert not quantized_activations(quantize(Own(), 4, 4, act_points=[]))


def test_nothing_left_to_quantize():
    with pytest.raises(
        InputError, match='No layer is left to quantize: all .* of the network, "0", "2", are skipped'
    ):
        quantize(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)), 4, 32)
    with pytest.raises(
        InputError, match=r'has no Conv2d or Linear layer\. .* full precision: "0" \(Conv1d\)'
    ):
        quantize(nn.Sequential(nn.Conv1d(3, 3, 1), nn.ReLU()), 4, 32)


def test_layers_of_other_kinds_are_not_left_in_silence():
    """One that was named by its kind alone would be left in full precision, and nobody would know."""

    def make():
        parts = {
            "first": nn.Linear(4, 4), "mid": nn.Conv2d(4, 4, 1), "up": nn.ConvTranspose2d(4, 4, 2),
            "line": nn.Conv1d(4, 4, 1), "rows": nn.LSTM(4, 4), "last": nn.Linear(4, 4),
        }  # fmt: skip
        return nn.Sequential(OrderedDict(parts))

    message = (
        r'Layers of other kinds stay in full precision: "up" \(ConvTranspose2d\), "line" \(Conv1d\), "rows" \(LSTM\)\. '
        r'If that is meant, say so: skip=\["first", "up", "line", "rows", "last"\]\.$'
    )
    with pytest.warns(UserWarning, match=message) as caught:
        model = quantize(make(), 4, 32)
    said = re.search(r"skip=(\[.*\])", str(caught[0].message))[1]
    silent = quantize(make(), 4, 32, skip=ast.literal_eval(said))
    assert quantized_layers(silent) == quantized_layers(model) == {"mid": LayerBits(4, None)}
    with pytest.warns(UserWarning, match=r'"up" \(ConvTranspose2d\)\. .* skip=\["up", "line", "rows"\]'):
        quantize(make(), 4, 32, skip=["line", "rows"], first_last_bits=8)
    quantize(make(), 32, 4, act_points=["mid"])  # no weight is quantized: there is nothing to say
    with pytest.raises(InputError, match='"upp".*Did you mean "up"'):
        quantize(make(), 4, 32, skip=["upp"])


def test_a_network_shows_the_bits_of_every_module():
    plain = nn.Sequential(
        nn.Linear(3, 3), nn.ReLU6(), nn.Linear(3, 3), nn.Sequential(nn.ReLU()), nn.Linear(3, 3)
    )
    before = repr(plain)
    network = quantize(plain, 4, 2, act_points=["1", "3"])
    for shown in (network, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        lines = repr(shown).splitlines()
        assert "  (1): ReLU6(act_bits=2)" in lines
        assert "    act_bits=2" in lines  # of the block
        assert sum("weight_bits=4" in line for line in lines) == 1
    assert repr(remove_quantizers(network)) == before


def test_layers_with_a_forward_pass_of_their_own_are_refused():
    class Standardized(nn.Conv2d):
        pass

    model = nn.Sequential(nn.Conv2d(3, 3, 1), Standardized(3, 3, 1), nn.Conv2d(3, 3, 1))
    with pytest.raises(InputError, match='"1" is a Standardized, and only a plain nn.Conv2d or nn.Linear'):
        quantize(copy.deepcopy(model), 4, 32)
    assert len(quantized_weights(quantize(model, 4, 32, skip=["1"]))) == 2


def test_an_act_point_that_returns_no_tensor():
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    model = quantize(nn.Sequential(nn.Linear(3, 3), Two()), 32, 4, act_points=["1"])
    with pytest.raises(InputError, match="The act point Two gave a tuple; it must give one tensor"):
        model(torch.rand(1, 3))
