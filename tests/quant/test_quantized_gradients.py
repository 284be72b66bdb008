"""DoReFa's `bit_g`: values, noise, and what a resumed run sees."""

import copy

import dorefa_loops as reference
import pytest
import torch
from torch import Tensor, nn

from rolewise.networks import build
from rolewise.quant import quantize
from rolewise.quant.gradient import quantize_gradient, uniform_noise
from rolewise.quant.layers import quantized_weights


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise_of(shape: tuple[int, ...], key: int, counter: int) -> Tensor:
    """SplitMix64 in Python's integers."""
    _, state = reference.splitmix((key + counter * 0x9E3779B97F4A7C15) % (1 << 64))
    numbers = []
    for _ in range(torch.Size(shape).numel()):
        state, output = reference.splitmix(state)
        numbers.append(((output >> 40) + 0.5) / (1 << 24) - 0.5)
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_values_equal_the_equation(bits: int):
    grad, noise = draw(5, 3, 2, 2), draw(5, 3, 2, 2, seed=1).tanh() / 2
    grad[2] = 0
    exact = reference.gradient(grad.flatten(1).tolist(), noise.flatten(1).tolist(), bits)
    found = quantize_gradient(grad, bits, noise)
    torch.testing.assert_close(found.flatten(1), torch.tensor(exact, dtype=torch.float64), rtol=0, atol=1e-14)
    assert not found[2].any()
    assert all(len(row.unique()) <= 2**bits for row in found)


@pytest.mark.parametrize(("key", "counter"), [(0, 0), (12345, 7), (2**63 - 1, 10**6)])
def test_noise_is_splitmix(key: int, counter: int):
    found = uniform_noise(torch.empty(3, 5), key, torch.tensor(counter))
    torch.testing.assert_close(found.double(), noise_of((3, 5), key, counter), rtol=0, atol=1e-7)


def test_noise_is_uniform_and_unlike_elsewhere():
    like = torch.empty(100_000)
    noise = uniform_noise(like, 1, torch.tensor(0))
    assert noise.abs().max() < 0.5
    assert abs(noise.mean().item()) < 0.005
    assert abs(noise.var().item() - 1 / 12) < 0.001
    for other in (uniform_noise(like, 2, torch.tensor(0)), uniform_noise(like, 1, torch.tensor(1))):
        assert abs(torch.corrcoef(torch.stack([noise, other]))[0, 1].item()) < 0.02


def test_the_mean_over_the_noise_is_the_gradient():
    grad = draw(1, 64)
    total = torch.zeros_like(grad)
    for step in range(2000):
        total += quantize_gradient(grad, 2, uniform_noise(grad, 3, torch.tensor(step)))
    inside = grad.abs() < 0.8 * grad.abs().max()  # the noise is clipped near the maximum
    torch.testing.assert_close((total / 2000)[inside], grad[inside], rtol=0, atol=0.06)


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    model(x).square().sum().backward()
    return [layer.weight.grad.clone() for layer in quantized_weights(model).values()]


def test_a_network_draws_again_each_step_and_repeats_from_its_state():
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = quantize(build("cnn-tiny"), 4, 4, grad_bits=2)
    first = gradients(model, x)
    saved = copy.deepcopy(model.state_dict())
    second = gradients(model, x)
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    resumed = quantize(build("cnn-tiny"), 4, 4, grad_bits=2)
    resumed.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(second, gradients(resumed, x), strict=True))
    torch.manual_seed(99)  # the global generator has no say
    resumed.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(second, gradients(resumed, x), strict=True))


def test_the_layer_sees_the_quantized_gradient():
    model = quantize(nn.Sequential(nn.Linear(3, 2, bias=False)), 8, 32, skip=[], grad_bits=3)
    layer = model[0]
    x, upstream = torch.rand(4, 3), torch.randn(4, 2)
    model(x).backward(upstream)
    noise = uniform_noise(upstream, layer.grad_key, torch.tensor(0))
    other = copy.deepcopy(layer)
    other.weight.grad = None
    expected = quantize_gradient(upstream, 3, noise).T @ x
    other.quantized_weight().backward(expected)
    torch.testing.assert_close(layer.weight.grad, other.weight.grad)
    assert layer.grad_count.item() == 1


def test_two_backward_passes_of_a_step_see_the_same_noise():
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = quantize(build("cnn-tiny"), 4, 4, grad_bits=2)
    loss = model(x).square().sum()
    weight = model.layer1[0].conv1.weight
    (one,), (two,) = (torch.autograd.grad(loss, weight, retain_graph=True) for _ in range(2))
    assert torch.equal(one, two)


def test_evaluation_counts_no_step():
    model = quantize(build("cnn-tiny"), 4, 4, grad_bits=2).eval()
    model(torch.randn(2, 3, 32, 32))
    with torch.no_grad():
        model.train()(torch.randn(2, 3, 32, 32))
    assert all(layer.grad_count == 0 for layer in quantized_weights(model).values())


def test_half_precision_gradients():
    grad = draw(4, 3).to(torch.bfloat16)
    noise = torch.zeros(4, 3)
    assert torch.equal(
        quantize_gradient(grad, 4, noise), quantize_gradient(grad.float(), 4, noise).bfloat16()
    )
