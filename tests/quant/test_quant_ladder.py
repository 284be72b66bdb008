"""Networks that go down a ladder of bits, and the count of weights that changed level."""

import copy
import math

import pytest
import torch

from rolewise import networks
from rolewise.errors import InputError
from rolewise.quant import (
    calibrate,
    changed_share,
    lift_bits,
    quantize,
    quantize_weight,
    quantized_layers,
    weight_codes,
)

METHODS = ("dorefa", "lsq", "pact")


def network(seed=0):
    model = networks.build("cnn-tiny", num_classes=10)
    model.reset(torch.Generator().manual_seed(seed))
    return model


def images(n=4):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def bits(model):
    found = quantized_layers(model).values()
    return {one.weights for one in found if one.weights}, {
        one.activations for one in found if one.activations
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_lifted_network_computes_as_one_made_with_those_bits(method):
    """From the start of the quantizers on: LSQ's step is then the one that it starts with at these bits."""
    low = quantize(network(), 2, 4, method=method)
    for least, expected in ((8, (8, 8)), (3, (3, 4)), (1, (2, 4))):
        lift_bits(low, least)
        made = quantize(network(), *expected, method=method)
        assert quantized_layers(low) == quantized_layers(made)
        torch.testing.assert_close(low(images()), made(images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_what_was_learned_goes_along(method):
    model = quantize(network(), 2, 2, method=method)
    calibrate(model, images())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("_step", "_clip")):
                parameter.mul_(1.3)
    learned = {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if name.endswith(("_step", "_clip"))
    }
    assert bool(learned) == (method != "dorefa")
    lift_bits(model, 8)
    for name, parameter in model.named_parameters():
        if name in learned:
            # Q_P: 127 of 8-bit and 1 of 2-bit weights; 255 and 3 of activations. PACT's bound stays.
            ratio = {"weight_step": 1 / 127, "act_step": 3 / 255, "act_clip": 1}[name.rsplit(".", 1)[-1]]
            torch.testing.assert_close(parameter.detach(), learned[name] * math.sqrt(ratio))
    lift_bits(model, 1)
    for name, parameter in model.named_parameters():
        if name in learned:
            torch.testing.assert_close(parameter.detach(), learned[name])


def test_without_rescaling_the_state_of_those_bits_fits():
    one, other = (quantize(network(), 2, 2, method="lsq") for _ in range(2))
    lift_bits(one, 4)
    lift_bits(other, 4, rescale=False)
    assert not torch.equal(one(images()), other(images()))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(images()), other(images()))


def test_layers_meant_for_more_bits_keep_them_and_float_layers_stay():
    model = network()
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    quantize(model, 2, 2, layers={names[1]: (6, 6)})
    lift_bits(model, 4)
    assert quantized_layers(model)[names[1]].weights == 6
    assert bits(model)[0] == {4, 6}
    assert names[0] not in quantized_layers(model)
    lift_bits(model, 1)
    assert bits(model)[0] == {2, 6}


def test_the_description_stays_what_the_network_is_meant_for():
    model = quantize(network(), 2, 3)
    before = copy.deepcopy(model.quantization)
    lift_bits(model, 8)
    assert model.quantization == before


def test_codes_are_the_levels_of_the_weights():
    model = quantize(network(), 2, 2)
    codes = weight_codes(model)
    for name, layer_codes in codes.items():
        weight = quantize_weight(dict(model.named_parameters())[f"{name}.weight"].detach(), 2)
        torch.testing.assert_close(layer_codes.double() * 2 / 3 - 1, weight.double(), rtol=1e-6, atol=1e-6)
    assert changed_share(codes, codes) == 0.0
    name = next(iter(codes))
    layer = dict(model.named_modules())[name]
    flat = layer.weight.detach().flatten()
    order = flat.abs().argsort()
    with (
        torch.no_grad()
    ):  # the three smallest cross 0, where two levels meet; the largest, which is the scale, stays
        layer.weight.view(-1)[order[:3]] = -flat[order[:3]]
    total = sum(one.numel() for one in codes.values())
    assert changed_share(codes, weight_codes(model)) == pytest.approx(3 / total)


def test_a_float_network_has_no_bits():
    with pytest.raises(InputError, match="The network is not quantized"):
        lift_bits(network(), 4)
    assert changed_share(weight_codes(network()), {}) == 0.0
