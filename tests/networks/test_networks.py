"""Every network of the table: published counts, shapes, taps, sizes, and weights that depend on a generator alone."""

import copy
import json
import math

import pytest
import torch
from torch import Tensor, nn

from rolewise.errors import InputError, InputTypeError
from rolewise.kd.base import collect, tap_names
from rolewise.networks import NETWORKS, build
from rolewise.quant import quantize

# Parameters with 100 classes. The paper's three: its own description; the small ones: counted by hand below; the
# others: the models that the distillation literature shares (Tian et al., ICLR 2020).
PARAMETERS = {
    "resnet18": 11_220_132,
    "resnet8": 4_949_412,
    "alexnet": 36_451_264,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet56": 861_620,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn-16-2": 703_284,
    "wrn-40-2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
    "resnet8-small": 83_892,
    "cnn-tiny": 22_924,
    "cnn-small": 320_260,
}
# Channels and size of each tap for 32x32 images.
TAPS = {
    "resnet18": ((64, 32), (128, 16), (256, 8), (512, 4)),
    "resnet8": ((64, 32), (128, 16), (256, 8), (512, 4)),
    "alexnet": ((192, 8), (384, 8), (256, 8), (256, 4)),
    "resnet20": ((16, 32), (32, 16), (64, 8)),
    "resnet32": ((16, 32), (32, 16), (64, 8)),
    "resnet56": ((16, 32), (32, 16), (64, 8)),
    "resnet8x4": ((64, 32), (128, 16), (256, 8)),
    "resnet32x4": ((64, 32), (128, 16), (256, 8)),
    "wrn-16-2": ((32, 32), (64, 16), (128, 8)),
    "wrn-40-2": ((32, 32), (64, 16), (128, 8)),
    "vgg8": ((128, 16), (256, 8), (512, 4), (512, 4)),
    "vgg13": ((128, 16), (256, 8), (512, 4), (512, 4)),
    "mobilenetv2": ((12, 16), (16, 8), (48, 4), (160, 2)),
    "shufflenetv1": ((240, 16), (480, 8), (960, 4)),
    "shufflenetv2": ((116, 16), (232, 8), (464, 4)),
    "resnet8-small": ((16, 32), (32, 16), (64, 8)),
    "cnn-tiny": ((8, 16), (16, 8), (32, 4)),
    "cnn-small": ((32, 16), (64, 8), (128, 4)),
}
SMALL = ("resnet8-small", "cnn-tiny")


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_tables_are_complete():
    assert set(PARAMETERS) == set(TAPS) == set(NETWORKS)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_counts_taps_and_sizes(name: str):
    model = build(name, num_classes=100)
    assert count(model) == PARAMETERS[name]
    assert model.architecture == {"name": name, "arguments": {"num_classes": 100}}
    assert json.loads(json.dumps(model.architecture)) == model.architecture
    assert len(model.taps) >= 3
    low = quantize(copy.deepcopy(model), 4, 4)
    reached: list[str] = []
    for point in low.act_points:
        low.get_submodule(point).register_forward_hook(lambda *_, point=point: reached.append(point))
    with torch.no_grad():
        found = collect(model.eval(), torch.zeros(2, 3, 32, 32), model.taps)
        assert found.logits.shape == (2, 100)
        assert tuple((tap.shape[1], tap.shape[2]) for tap in found.features) == TAPS[name]
        assert all(tap.shape[2] == tap.shape[3] for tap in found.features)
        assert low.eval()(torch.zeros(1, 3, 32, 32)).isfinite().all()
        assert tuple(reached) == low.act_points  # each once, shallow to deep
        for size in (16, 17, 48, 64):
            assert low(torch.zeros(1, 3, size, size)).shape == (1, 100)


@pytest.mark.parametrize(
    ("name", "classes"), [("resnet18", 11_173_962), ("resnet8", 4_903_242), ("alexnet", 36_082_624)]
)
def test_ten_classes_of_the_papers_networks(name: str, classes: int):
    assert count(build(name)) == classes


@pytest.mark.parametrize(
    ("name", "widths"),
    [("resnet8-small", (16, 32, 64)), ("cnn-tiny", (8, 16, 32)), ("cnn-small", (32, 64, 128))],
)
def test_counts_of_the_small_ones_by_hand(name: str, widths: tuple[int, int, int]):
    a, b, c = widths
    convolutions = 27 * a + 2 * 9 * a * a + (9 * a * b + 9 * b * b + a * b) + (9 * b * c + 9 * c * c + b * c)
    norms = 2 * (3 * a + 3 * b + 3 * c)
    assert count(build(name, num_classes=7)) == convolutions + norms + 7 * c + 7


def test_batch_norm_and_biases_of_the_papers_networks():
    for name, channels in (("resnet18", 4800), ("resnet8", 2880), ("alexnet", 9344)):
        norms = [
            module for module in build(name).modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
        ]
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
        assert sum(norm.num_features for norm in norms) == channels
    for name, biases in (("resnet18", ["fc.bias"]), ("resnet8", ["fc.bias"]), ("alexnet", [])):
        model = build(name)
        layers = {n for n, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
        assert [n for n, _ in model.named_parameters() if n.endswith("bias") and n[:-5] in layers] == biases


def bytes_of(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    first = build("cnn-tiny", seed=3)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    torch.manual_seed(5)
    assert same(bytes_of(first), bytes_of(build("cnn-tiny", seed=3)))
    assert not same(bytes_of(first), bytes_of(build("cnn-tiny", seed=4)))


def test_reset_draws_the_same_in_every_state_format_and_type():
    expected = build("resnet8-small")
    expected.reset(torch.Generator().manual_seed(11))
    used = build("resnet8-small", seed=8).to(memory_format=torch.channels_last)
    used(torch.randn(4, 3, 16, 16))
    with torch.no_grad():
        for parameter in used.parameters():
            parameter.add_(1)
    used.reset(torch.Generator().manual_seed(11))
    assert same(bytes_of(expected), bytes_of(used))
    double = build("resnet8-small").double()
    double.reset(torch.Generator().manual_seed(11))
    assert same(
        [tensor.double() for tensor in bytes_of(expected)], [tensor.double() for tensor in bytes_of(double)]
    )


def test_initial_weights_have_the_stated_spread():
    model = build("resnet18")
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            error = math.sqrt(2 / fan_in) / math.sqrt(2 * module.weight.numel())  # of a standard deviation
            assert abs(module.weight.std().item() - math.sqrt(2 / fan_in)) < 5 * error, name
    limit = math.sqrt(6 / (512 + 10))
    assert 0.99 * limit < model.fc.weight.abs().max().item() <= limit
    assert not model.fc.bias.any()
    last = build("alexnet").fc8.weight
    assert abs(last.std().item() - math.sqrt(2 / 4096)) < 1e-3


def test_alexnet_pools_other_sizes_to_its_levels():
    model = quantize(build("alexnet"), 32, 2).eval()
    entries: list[Tensor] = []
    model.fc6.register_forward_pre_hook(lambda _module, inputs: entries.append(inputs[0]))
    with torch.no_grad():
        for size in (16, 32, 40, 64):
            model(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size)))
    assert len(entries) == 4
    assert all(entry.shape == (2, 4096) and torch.isin(entry, torch.arange(4) / 3).all() for entry in entries)


def test_unknown_names_and_arguments():
    with pytest.raises(InputError, match='Unknown network "alexnett".*Did you mean "alexnet"?'):
        build("alexnett")
    with pytest.raises(InputError, match="""Unknown network "Alex's"\\. Known: "resnet18", """):
        build("Alex's")
    with pytest.raises(
        InputTypeError, match='The network "resnet8" cannot be built with.*unexpected keyword'
    ):
        build("resnet8", depth=3)
    with pytest.raises(InputError, match="`num_classes` must be an integer at least 2, got 1"):
        build("cnn-tiny", num_classes=1)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_taps_of_vectors_and_before_the_relu(name: str):
    """What losses of vectors average is what the classifier sees; maps before the ReLU become the stages' behind it."""
    model = NETWORKS[name](10).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    classifier = model.get_submodule(model.classifier)
    handle = classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        vectors = collect(model, x, tap_names(model, None, kind="embedding")).features[-1]
    handle.remove()
    if name != "alexnet":  # its classifier sees hidden units
        assert torch.equal(vectors.mean((2, 3)), seen[0])
    kind = tap_names(model, None, kind="pre_activation")
    assert len(kind) == len(model.taps)
    with torch.no_grad():
        before, stages = collect(model, x, kind).features, collect(model, x, model.taps).features
    assert [b.shape for b in before] == [s.shape for s in stages]
    if name in {"alexnet", "mobilenetv2"} or name.startswith("wrn"):
        return  # no tap before a ReLU, linear maps, or the ReLU of the stage that follows
    for b, s in zip(before, stages, strict=True):
        assert float(b.min()) < 0
        expected = b.relu()
        if name == "shufflenetv2":
            half = b.shape[1] // 2
            expected = torch.stack((b[:, :half], b[:, half:].relu()), 2).flatten(1, 2)
        assert torch.equal(expected, s)
