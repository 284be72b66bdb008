"""`frozen_weights`: each weight is quantized once for an evaluation, and never when it must not be."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from rolewise.networks import build
from rolewise.quant import frozen_weights, quantize
from rolewise.quant.dorefa import DoReFaWeights
from rolewise.quant.layers import quantized_weights


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often weights are quantized."""
    found: Counter[str] = Counter()
    weight = DoReFaWeights.quantize

    def counted(self: DoReFaWeights, layer: nn.Module, x: Tensor, bits: int) -> Tensor:
        found["calls"] += 1
        return weight(self, layer, x, bits)

    monkeypatch.setattr(DoReFaWeights, "quantize", counted)
    return found


def low_bit() -> nn.Module:
    return quantize(build("cnn-tiny"), 2, 2).eval()


X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_once_per_evaluation(calls: Counter[str]):
    model = low_bit()
    layers = len(quantized_weights(model))
    with torch.no_grad():
        expected = model(X)
        calls.clear()
        with frozen_weights(model):
            for _ in range(3):
                assert torch.equal(model(X), expected)
    assert calls["calls"] == layers
    with torch.no_grad():
        model(X)
    assert calls["calls"] == 2 * layers


def test_once_per_training_step(calls: Counter[str]):
    model = low_bit().train()
    model(X).sum().backward()
    assert calls["calls"] == len(quantized_weights(model))


def test_gradients_are_never_frozen():
    model = low_bit()
    with frozen_weights(model):
        model(X).sum().backward()
    assert all(layer.weight.grad is not None for layer in quantized_weights(model).values())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_between_evaluations_is_seen(mode: type):
    """Also within an outer context, and however often: the kept tensors are renewed, in their place."""
    model = low_bit()
    kept = None
    for _ in range(3):
        with mode(), frozen_weights(model), frozen_weights(model):
            frozen = model(X)
            place = model.layer1[0].conv1.quantized_weight().data_ptr()
        assert kept in (None, place)
        kept = place
        with torch.no_grad():
            assert torch.equal(model(X), frozen)
            for layer in quantized_weights(model).values():
                layer.weight.mul_(-1).add_(0.01)
            assert not torch.equal(model(X), frozen)


def test_an_exception_ends_it():
    model = low_bit()
    with pytest.raises(RuntimeError, match="stop"), torch.no_grad(), frozen_weights(model):
        raise RuntimeError("stop")
    with torch.no_grad():
        before = model(X)
        model.layer1[0].conv1.weight.neg_()
        assert not torch.equal(model(X), before)


def test_autocast_keeps_the_cast_weight_too(calls: Counter[str]):
    model = low_bit()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = model(X)
    calls.clear()
    for _ in range(2):
        with torch.inference_mode(), frozen_weights(model):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert torch.equal(model(X), expected)
                assert model.layer1[0].conv1.quantized_weight().dtype == torch.bfloat16
            assert model.layer1[0].conv1.quantized_weight().dtype == torch.float32
    assert calls["calls"] == 2 * len(quantized_weights(model))


def test_a_change_of_type_or_format_makes_new_tensors():
    model = low_bit()
    for change in (nn.Module.double, lambda m: m.float().to(memory_format=torch.channels_last)):
        with torch.no_grad(), frozen_weights(model):
            model(X.to(model.fc.weight.dtype))
        model = change(model)
        x = X.to(model.fc.weight.dtype)
        with torch.no_grad():
            expected = model(x)
            with frozen_weights(model):
                assert torch.equal(model(x), expected)


def test_copies_and_pickles_are_not_frozen():
    model = low_bit()
    with torch.no_grad(), frozen_weights(model):
        model(X)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            layer = other.layer1[0].conv1
            assert layer._frozen == 0
            assert layer._cache == {}
