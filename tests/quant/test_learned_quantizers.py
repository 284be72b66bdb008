"""LSQ and PACT against loops from their papers' equations."""

import math

import dorefa_loops as reference
import pytest
import torch
from torch import Tensor, nn

from rolewise.networks import build
from rolewise.quant import calibrate, quantize, quantize_weight
from rolewise.quant.activations import quantized_activations
from rolewise.quant.layers import quantized_weights
from rolewise.quant.lsq import quantize_learned_step
from rolewise.quant.pact import quantize_learned_clip

BOUNDS = [(-2, 1), (-8, 7), (0, 3), (0, 255)]


def draw(n: int = 200, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_lsq_equals_the_equations(low: int, high: int):
    x, upstream, s, scale = draw(), draw(seed=1), 0.3, 0.125
    leaf, step = x.clone().requires_grad_(), torch.tensor(s, dtype=torch.float64, requires_grad=True)
    found = quantize_learned_step(leaf, step, low, high, scale)
    exact = [reference.lsq(value, s, low, high) for value in x.tolist()]
    torch.testing.assert_close(found, torch.tensor(exact, dtype=torch.float64), rtol=1e-15, atol=1e-15)
    found.backward(upstream)
    slopes = [reference.lsq_slopes(value, s, low, high) for value in x.tolist()]
    dx = torch.tensor([slope for slope, _ in slopes], dtype=torch.float64) * upstream
    ds = scale * math.fsum(u * slope for u, (_, slope) in zip(upstream.tolist(), slopes, strict=True))
    assert torch.equal(leaf.grad, dx)
    assert step.grad.item() == pytest.approx(ds, rel=1e-12)


def test_lsq_gradient_at_the_bounds_is_zero():
    x = torch.tensor([-2.0, -1.999, 0.999, 1.0], requires_grad=True)
    quantize_learned_step(x, torch.tensor(1.0), -2, 1, 1.0).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_pact_equals_the_equations(bits: int):
    x, upstream, bound = draw(), draw(seed=1), 0.8
    x[:3] = torch.tensor([0.0, bound, -0.0])
    leaf, clip = x.clone().requires_grad_(), torch.tensor(bound, dtype=torch.float64, requires_grad=True)
    found = quantize_learned_clip(leaf, clip, bits)
    exact = [reference.pact(value, bound, bits) for value in x.tolist()]
    torch.testing.assert_close(found, torch.tensor(exact, dtype=torch.float64), rtol=1e-14, atol=1e-14)
    found.backward(upstream)
    assert torch.equal(leaf.grad, upstream * ((x >= 0) & (x < bound)))
    assert clip.grad.item() == pytest.approx(math.fsum(upstream[x >= bound].tolist()), rel=1e-12)


def test_starting_points_are_the_papers():
    model = quantize(build("cnn-tiny"), 3, 2, method="lsq")
    for layer in quantized_weights(model).values():
        expected = 2 * layer.weight.double().abs().mean() / math.sqrt(3)
        assert layer.weight_step.item() == pytest.approx(expected.item(), rel=1e-6)
    for module in quantized_activations(model).values():
        # 2 E[relu(z)] / sqrt(Q_P), z standard normal, by quadrature
        z = torch.linspace(0, 12, 100_001, dtype=torch.float64)
        mean = torch.trapezoid(z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi), z)
        assert module.act_step.item() == pytest.approx(2 * mean.item() / math.sqrt(3), rel=1e-6)


def test_steps_train_with_the_papers_scale():
    """g = 1/sqrt(N Q_P): N weights, or the features of one image."""
    layer = quantize(nn.Sequential(nn.Linear(6, 4)), 2, 32, skip=[], method="lsq")[0]
    grad = torch.rand(4, 6)
    layer.quantized_weight().backward(grad)
    s = layer.weight_step.item()
    slopes = [reference.lsq_slopes(value, s, -2, 1)[1] for value in layer.weight.flatten().tolist()]
    expected = sum(u * slope for u, slope in zip(grad.flatten().tolist(), slopes, strict=True)) / math.sqrt(
        24
    )
    assert layer.weight_step.grad.item() == pytest.approx(expected, rel=1e-5)

    model = quantize(nn.Sequential(nn.ReLU()), 32, 2, act_points=["0"], method="lsq")
    x = torch.rand(5, 3, 2, 2) * 2
    model(x).sum().backward()
    s = model[0].act_step.item()
    total = sum(reference.lsq_slopes(value, s, 0, 3)[1] for value in x.flatten().tolist())
    assert model[0].act_step.grad.item() == pytest.approx(total / math.sqrt(12 * 3), rel=1e-4)


def test_pact_weights_are_dorefas():
    layer = quantize(nn.Sequential(nn.Linear(6, 4)), 2, 32, skip=[], method="pact")[0]
    assert torch.equal(layer.quantized_weight(), quantize_weight(layer.weight, 2))


@pytest.mark.parametrize("method", ["lsq", "pact"])
def test_calibration_fits_each_act_point_in_turn(method: str):
    model = quantize(build("cnn-tiny"), 32, 4, method=method)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    buffers = {name: buffer.clone() for name, buffer in model.eval().named_buffers()}
    calibrate(model, images)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _m, inputs, name=name: seen.__setitem__(name, inputs[0]))
        for name, module in quantized_activations(model).items()
    ]
    with torch.no_grad():
        model.train()(images)  # the batch's own statistics, as a first training step has them
    for handle in handles:
        handle.remove()
    for name, module in quantized_activations(model).items():
        a = seen[name].double()
        if method == "lsq":
            assert module.act_step.item() == pytest.approx(
                2 * a.clamp_min(0).mean().item() / math.sqrt(15), rel=1e-5
            )
        else:
            positive = a.clamp_min(0)
            expected = positive.mean() + 3 * positive.std()
            assert module.act_clip.item() == pytest.approx(expected.item(), rel=1e-5)


def test_calibration_of_a_module_that_is_no_relu():
    model = quantize(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), 32, 4, act_points=["1"], method="lsq")
    images = torch.rand(7, 3)
    calibrate(model, images)
    expected = 2 * torch.tanh(model[0](images)).clamp_min(0).mean() / math.sqrt(15)
    assert model[1].act_step.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("method", ["lsq", "pact"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(method: str, dtype: torch.dtype):
    x = (draw() * 2).to(dtype)
    if method == "lsq":
        found, exact = (quantize_learned_step(v, torch.tensor(0.3), 0, 7, 1.0) for v in (x, x.float()))
    else:
        found, exact = (quantize_learned_clip(v, torch.tensor(0.3), 3) for v in (x, x.float()))
    assert torch.equal(found, exact.to(dtype))


@pytest.mark.parametrize("method", ["lsq", "pact"])
def test_a_bound_that_training_drives_below_zero_gives_no_nan(method: str):
    x = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    bound = torch.tensor(-0.5, requires_grad=True)
    function = (lambda: quantize_learned_step(x, bound, 0, 3, 1.0)) if method == "lsq" else None
    found = function() if function else quantize_learned_clip(x, bound, 2)
    found.sum().backward()
    assert found.isfinite().all()
    assert bound.grad.isfinite()
    assert bound.grad > 0 or method == "pact"


@pytest.mark.parametrize("method", ["dorefa", "lsq", "pact"])
def test_a_two_bit_network_learns(method: str):
    """Sixteen random images by heart; the learned quantizers' parameters move."""
    model = quantize(build("cnn-tiny", seed=1), 2, 2, method=method)
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 10
    calibrate(model, images)
    before = {name: p.clone() for name, p in model.named_parameters() if p.ndim == 0}
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.0  # chance is 2.3
    moved = [not torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before]
    assert all(moved)
    assert len(moved) == {"dorefa": 0, "lsq": 8 + 6, "pact": 6}[method]


def test_reset_starts_again():
    fresh = quantize(build("cnn-tiny"), 3, 2, method="lsq", grad_bits=4)
    used = quantize(build("cnn-tiny"), 3, 2, method="lsq", grad_bits=4)
    used(torch.randn(4, 3, 32, 32)).sum().backward()
    with torch.no_grad():
        for parameter in used.parameters():
            parameter.add_(0.1)
    for model in (fresh, used):
        model.reset(torch.Generator().manual_seed(4))
    for (name, one), (_, other) in zip(fresh.state_dict().items(), used.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
