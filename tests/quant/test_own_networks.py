"""Networks that do what published code does: weights read instead of called, shared modules, in-place operations."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from rolewise.errors import InputError
from rolewise.population.runner import reinitialize
from rolewise.quant import (
    LayerBits,
    calibrate,
    decode_weights,
    frozen_weights,
    quantization,
    quantize,
    quantize_activation,
    quantize_weight,
    quantized_layers,
    remove_quantizers,
)
from rolewise.quant.activations import activation_bits, quantized_activations, set_activation_bits
from rolewise.quant.layers import quantized_weights


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Reads(nn.Module):
    """Takes the weights of its layers instead of calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.stem(x), self.conv.weight, self.conv.bias)
        return F.linear(x.mean((2, 3)), self.fc.weight, self.fc.bias)


@pytest.mark.parametrize("method", ["dorefa", "lsq", "pact"])
def test_a_weight_that_is_read_in_a_forward_pass_is_the_quantized_one(method: str):
    plain = Reads()
    low = quantize(copy.deepcopy(plain), 2, 32, skip=["stem"], method=method)
    x = draw(4, 3, 16, 16)
    with torch.no_grad():
        for name in ("conv", "fc"):
            getattr(plain, name).weight.copy_(getattr(low, name).quantized_weight())
        expected = plain(x)
        assert torch.equal(low(x), expected)
        with frozen_weights(low):
            assert torch.equal(low(x), expected)
    for other in (low, copy.deepcopy(low), pickle.loads(pickle.dumps(low))):
        assert torch.equal(other(x), expected)
    low(x).sum().backward()
    assert low.conv.weight.grad.abs().sum() > 0
    assert isinstance(low.conv.weight, nn.Parameter)  # outside of a forward pass: the float one
    assert len(low.conv.weight.unique()) > 4
    remove_quantizers(low)
    assert len(low.conv.weight.unique()) > 4
    assert not low._forward_hooks
    assert not low._forward_pre_hooks


def test_an_exception_in_a_forward_pass_ends_the_pass():
    low = quantize(Reads(), 2, 32)
    with pytest.raises(RuntimeError):
        low(draw(4, 5, 16, 16))
    assert isinstance(low.conv.weight, nn.Parameter)


def test_the_fast_path_of_a_transformer_layer_is_quantized_too():
    block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    model = quantize(nn.Sequential(block), 2, 32, skip=["0.self_attn"]).eval()
    x = draw(2, 5, 16)
    with_gradient = model(x)
    with torch.no_grad():
        torch.testing.assert_close(model(x), with_gradient, rtol=1e-5, atol=1e-5)
        with frozen_weights(model):
            torch.testing.assert_close(model(x), with_gradient, rtol=1e-5, atol=1e-5)
        remove_quantizers(model)
        assert (model(x) - with_gradient).abs().max() > 0.01


def test_an_evaluation_names_what_no_forward_pass_reached():
    class Idle(Reads):
        def __init__(self) -> None:
            super().__init__()
            self.extra, self.act = nn.Conv2d(8, 8, 3), nn.ReLU()

    model = quantize(Idle(), 4, 4, ["act"], [])
    message = "but not used by the forward passes of this evaluation: extra, act"
    with pytest.warns(UserWarning, match=message), torch.no_grad(), frozen_weights(model):
        model(draw(2, 3, 16, 16))
    model = quantize(Reads(), 4, 4, [], [])
    with warnings.catch_warnings(), torch.no_grad(), frozen_weights(model):
        warnings.simplefilter("error")
        model(draw(2, 3, 16, 16))
    with warnings.catch_warnings(), frozen_weights(model):  # no pass at all: an evaluation that was stopped
        warnings.simplefilter("error")


class Twice(nn.Module):
    """One convolution and one ReLU, each registered under two names."""

    def __init__(self) -> None:
        super().__init__()
        conv, act = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.stem, self.body, self.fc = (
            nn.Conv2d(3, 8, 3),
            nn.Sequential(conv, act, conv, act),
            nn.Linear(8, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


def test_a_module_is_known_by_each_of_its_names():
    first = quantize(Twice(), 4, 4, act_points=["body.1"], layers={"body.0": 2})
    second = quantize(Twice(), 4, 4, act_points=["body.3"], layers={"body.2": 2})
    assert quantization(first) == quantization(second)
    assert quantized_layers(second) == {"body.0": LayerBits(weights=2), "body.1": LayerBits(activations=4)}
    both = quantize(Twice(), 4, 4, act_points=["body.1", "body.3"], skip=["body.2"])
    assert set(quantized_layers(both)) == {"stem", "body.1", "fc"}


@pytest.mark.parametrize("bits", [{"one": 4, "two": 4}, {"one": 4, "two": 2}])
@pytest.mark.parametrize("method", ["dorefa", "lsq"])
def test_layers_that_share_a_weight_are_decoded_once(bits: dict[str, int], method: str):
    model = nn.Sequential()
    model.one, model.two, model.three = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
    model.two.weight = model.three.weight = model.one.weight
    low = quantize(model, 4, 32, [], skip=["three"], layers=bits, method=method)
    if method == "lsq":
        with torch.no_grad():
            low.two.weight_step.mul_(1.5)
    x, floats = draw(5, 6), low.three.weight.detach().clone()
    with torch.no_grad():
        expected = low(x)
        assert torch.equal(decode_weights(low)(x), expected)
    assert torch.equal(low.three.weight, floats)  # the float layer keeps its floats
    shared = method == "dorefa" and bits["one"] == bits["two"]
    assert (low.one.weight is low.two.weight) == shared


def test_an_in_place_relu_is_replaced_by_a_quantizer_in_place():
    class Shortcut(nn.Module):
        def __init__(self, inplace: bool) -> None:
            super().__init__()
            self.conv, self.relu, self.last = (
                nn.Conv2d(3, 4, 3),
                nn.ReLU(inplace),
                nn.Conv2d(4, 4, 3, padding=1),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.last(self.relu(x)) + x

    for method in ("dorefa", "lsq", "pact"):
        low = quantize(Shortcut(True), 32, 8, ["relu"], method=method)
        x = draw(2, 3, 8, 8)
        point = low.relu if method != "dorefa" else None
        grad = copy.deepcopy(low)
        quantized = quantize_activation(low.conv(x), 8) if point is None else None
        if quantized is not None:
            assert torch.equal(low(x), low.last(quantized) + quantized)
        low(x).square().sum().backward()
        # The same by hand: both users of the quantized value.
        value = grad.relu.forward(grad.conv(x).clone())
        (grad.last(value) + value).square().sum().backward()
        assert torch.equal(low.conv.weight.grad, grad.conv.weight.grad)
        with torch.no_grad():
            written = draw(2, 4, 5, 5)
            assert low.relu(written) is written
    outer = quantize(Shortcut(False), 32, 8, ["relu"])
    x = draw(2, 3, 8, 8)
    inner = outer.conv(x)
    assert torch.equal(outer(x), outer.last(quantize_activation(inner, 8)) + inner)
    other = quantize(nn.Sequential(nn.Hardtanh(inplace=True)), 32, 2, ["0"])
    with torch.no_grad():
        written = draw(7)
        assert other(written) is written
    assert torch.isin(written, torch.arange(4) / 3).all()


def test_weights_that_a_hook_recomputes_are_refused_before_anything_changes():
    def pruned() -> nn.Module:
        conv = nn.Conv2d(8, 8, 3)
        prune.l1_unstructured(conv, "weight", amount=0.5)
        return conv

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old functions say that they are old
        hooked = [
            pruned(),
            nn.utils.weight_norm(nn.Conv2d(8, 8, 3)),
            nn.utils.spectral_norm(nn.Conv2d(8, 8, 3)),
        ]
    for conv in hooked:
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), conv, nn.Conv2d(8, 4, 1)).eval()
        x = draw(2, 3, 16, 16)
        before, kinds = model(x), [type(module) for module in model.modules()]
        with pytest.raises(InputError, match='The weight of "2" is no parameter: a hook recomputes it'):
            quantize(model, 2, 32)
        assert torch.equal(model(x), before)
        assert [type(module) for module in model.modules()] == kinds
        assert set(quantized_layers(quantize(model, 2, 32, skip=["0", "2", "3"]))) == {"1"}  # as advised
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
    )
    with pytest.raises(InputError, match='"2" is a ParametrizedConv2d'):
        quantize(model, 2, 32, skip=[])
    assert not quantized_layers(model)


def test_a_layer_that_is_pruned_later_is_quantized_from_what_the_hook_computes():
    model = quantize(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)), 4, 32)
    prune.l1_unstructured(model[1], "weight", amount=0.5)
    x = draw(2, 3, 8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    model(x).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        expected = model(x)
        masked = model[1].weight_orig * model[1].weight_mask
        assert torch.equal(
            expected, model[2](F.conv2d(model[0](x), quantize_weight(masked, 4), model[1].bias))
        )
        with frozen_weights(model):
            assert torch.equal(model(x), expected)
    prune.remove(model[1], "weight")
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("point", [nn.ReLU(), nn.Tanh(), nn.BatchNorm2d(8)])
def test_drawing_weights_again_restarts_the_quantizers(point: nn.Module):
    layers = nn.Conv2d(3, 8, 3), copy.deepcopy(point), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(1152, 4)
    model = quantize(nn.Sequential(*layers), 4, 4, ["1"], method="lsq")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(100)
    model[2].reset_quantizer()
    reinitialize(model, 0, "init", "student", 3)
    expected = 2 * model[2].weight.abs().mean() / 7**0.5
    assert model[2].weight_step.item() == pytest.approx(expected.item(), rel=1e-6)
    assert model[1].act_step.item() == pytest.approx(2 / (2 * torch.pi * 15) ** 0.5, rel=1e-6)
    assert len(model[2].quantized_weight().unique()) > 4


class Noted(nn.Module):
    """Notes of its owner under names that quantized modules use."""

    def __init__(self) -> None:
        super().__init__()
        self.act_bits, self.quantization = 8, {"by": "its owner"}
        self.conv, self.tanh, self.second, self.fc = (
            nn.Conv2d(3, 8, 3),
            nn.Tanh(),
            nn.Conv2d(8, 8, 3),
            nn.Linear(8, 4),
        )
        self.tanh.act_bits = 5

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.tanh(self.conv(x))).mean((2, 3)))


@pytest.mark.parametrize("method", ["dorefa", "lsq", "pact"])
def test_attributes_of_the_owner_are_left_alone(method: str):
    model = Noted()
    assert quantization(model) is None
    model.quantization = None
    quantize(model, 4, 3, ["tanh"], method=method)
    assert quantized_layers(model) == {
        "tanh": LayerBits(activations=3),
        "second": LayerBits(weights=4),
    }
    calibrate(model, draw(8, 3, 16, 16))
    assert (model.act_bits, model.tanh.act_bits) == (8, 5)
    assert activation_bits(model.tanh) == (3, method)
    set_activation_bits(model.tanh, 2)
    assert activation_bits(pickle.loads(pickle.dumps(model)).tanh) == (2, method)
    remove_quantizers(model)
    assert (model.act_bits, model.tanh.act_bits) == (8, 5)
    with pytest.raises(InputError, match="Tanh is no act point"):
        activation_bits(model.tanh)


def test_an_act_point_with_a_parameter_of_the_quantizers_name_is_refused():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act_step = nn.Parameter(torch.ones(()))

    model = nn.Sequential(nn.Conv2d(3, 3, 1), Own())
    with pytest.raises(InputError, match='act point "1" has an attribute `act_step` of its own'):
        quantize(model, 4, 4, ["1"], [], method="lsq")
    assert not quantized_layers(model)


def test_a_compiled_network_is_quantized_beneath():
    compiled = torch.compile(Twice(), backend="eager")
    assert quantize(compiled, 4, 4, act_points=["body.1"]) is compiled
    assert quantization(compiled) == quantization(quantize(Twice(), 4, 4, act_points=["body.1"]))
    assert set(quantized_layers(compiled)) == {"body.0", "body.1"}
    assert set(quantized_activations(compiled)) == {"body.1"}
    with pytest.raises(InputError, match="quantized already"):
        quantize(compiled, 4, 4, act_points=["body.1"])
    remove_quantizers(compiled)
    assert quantization(compiled) is None
    assert not quantized_weights(compiled)


def test_first_and_last_layer_at_8_bits():
    model = quantize(Reads(), 2, 32, first_last_bits=8)
    assert quantized_layers(model) == {
        "stem": LayerBits(weights=8),
        "conv": LayerBits(weights=2),
        "fc": LayerBits(weights=8),
    }
    assert len(model.fc.quantized_weight().unique()) > 4
    named = quantize(Reads(), 2, 32, [], skip=["fc"], layers={"stem": 4}, first_last_bits=8)
    assert quantized_layers(named) == {"stem": LayerBits(weights=4), "conv": LayerBits(weights=2)}
    with pytest.raises(InputError, match="`first_last_bits` must be 1 to 8, or 32"):
        quantize(Reads(), 2, 32, first_last_bits=9)


def test_lsq_at_one_bit_is_refused_before_names_are_looked_at():
    with pytest.raises(
        InputError, match='`weight_bits` must be 2 to 8 or 32 with method="lsq", got 1.*dorefa'
    ):
        quantize(Reads(), 1, 4, act_points=["nowhere"], method="lsq")
    model = Reads()
    with pytest.raises(InputError, match='with method="lsq", got 1'):
        quantize(model, 4, 32, [], layers={"conv": 1}, method="lsq")
    assert not quantized_layers(model)
