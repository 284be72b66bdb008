"""DoReFa against loops in float64, the golden values, and the variants that are often mistaken for it."""

import dorefa_loops as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rolewise.bits import check_bits
from rolewise.errors import InputError, InputTypeError
from rolewise.quant import quantize_activation, quantize_weight
from rolewise.trainer.recorded import GraphRecorder

BITS = range(1, 9)
# How far the float32 value before rounding may lie from the exact one, in levels: beyond it the level must be the same.
NEAR = {torch.float32: 1e-4, torch.float64: 1e-9}


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_golden_weights():
    w = torch.tensor([-1, -0.5, -0.1, 0, 0.2, 0.5, 2])
    two = torch.tensor([-1, -1 / 3, -1 / 3, 1 / 3, 1 / 3, 1 / 3, 1])
    four = torch.tensor([-11, -7, -1, 1, 3, 7, 15]) / 15
    torch.testing.assert_close(quantize_weight(w, 2), two, rtol=0, atol=1e-7)
    torch.testing.assert_close(quantize_weight(w, 4), four, rtol=0, atol=1e-7)


def test_golden_activations():
    a = torch.tensor([-0.3, 0, 0.1, 0.166, 0.17, 0.4999, 0.5, 0.51, 0.9, 1, 1.7])
    two = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3]) / 3
    four = torch.tensor([0, 0, 2, 2, 3, 7, 8, 8, 14, 15, 15]) / 15
    assert torch.equal(quantize_activation(a, 2), two)
    assert torch.equal(quantize_activation(a, 4), four)


def test_golden_gradient():
    w = torch.tensor([-1, -0.5, 0.2, 0.5], dtype=torch.float64, requires_grad=True)
    (torch.tensor([1.0, 2, 3, 4], dtype=torch.float64) * quantize_weight(w, 2)).sum().backward()
    golden = torch.tensor([1.09793834, 2.06526725, 3.78565004, 4.13053449], dtype=torch.float64)
    torch.testing.assert_close(w.grad, golden, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", BITS)
def test_weights_equal_the_loops(bits: int, dtype: torch.dtype):
    w = draw(6, 5, 3, 3, seed=bits, dtype=dtype)
    exact = torch.tensor(reference.weight(w.double().flatten().tolist(), bits), dtype=torch.float64)
    found = quantize_weight(w, bits)
    assert found.dtype == dtype
    assert found.shape == w.shape
    if bits == 1:
        torch.testing.assert_close(found.double().flatten(), exact, rtol=1e-6, atol=0)
        return
    smooth = torch.tensor(reference.smooth_weight(w.double().flatten().tolist()), dtype=torch.float64)
    levels = (smooth / 2 + 0.5) * (2**bits - 1)
    near_half = (levels - levels.floor() - 0.5).abs() < NEAR[dtype]
    assert near_half.float().mean() < 0.1
    torch.testing.assert_close(found.double().flatten()[~near_half], exact[~near_half], rtol=0, atol=2e-7)


@pytest.mark.parametrize("bits", range(2, 9))
def test_weight_gradients_equal_central_differences(bits: int):
    w, upstream = draw(3, 2, 2, seed=bits), draw(3, 2, 2, seed=100 + bits)
    exact = reference.weight_gradient(w.flatten().tolist(), upstream.flatten().tolist())
    leaf = w.clone().requires_grad_()
    quantize_weight(leaf, bits).backward(upstream)
    torch.testing.assert_close(
        leaf.grad.flatten(), torch.tensor(exact, dtype=torch.float64), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("w", [[0.5, -0.5, 0.1, 0.5], [20.0, -20.0, 0.3, 1.0]])
def test_weights_that_share_the_maximum_share_its_gradient(w: list[float]):
    """Autograd through the plain formula is the reference: `amax` shares evenly."""
    upstream = torch.tensor([1.0, 2.0, -3.0, 0.5], dtype=torch.float64)
    plain, ours = (torch.tensor(w, dtype=torch.float64, requires_grad=True) for _ in range(2))
    t = torch.tanh(plain)
    (t / t.abs().amax()).backward(upstream)
    quantize_weight(ours, 3).backward(upstream)
    torch.testing.assert_close(ours.grad, plain.grad, rtol=0, atol=1e-12)


def test_one_bit_weights_pass_the_gradient_on_and_give_zero_a_plus():
    w = torch.tensor([0.0, -0.0, -2.0, 1.0], requires_grad=True)
    found = quantize_weight(w, 1)
    assert found.tolist() == [0.75, 0.75, -0.75, 0.75]
    upstream = torch.tensor([1.0, -2.0, 3.0, -4.0])
    found.backward(upstream)
    assert torch.equal(w.grad, upstream)


@pytest.mark.parametrize("bits", BITS)
def test_a_tensor_of_zeros_gives_no_nan(bits: int):
    w = torch.zeros(4, requires_grad=True)
    found = quantize_weight(w, bits)
    assert torch.allclose(found, torch.tensor(1 / (2**bits - 1) if bits > 1 else 0.0), atol=1e-7)
    found.sum().backward()
    assert torch.equal(w.grad, torch.zeros(4) if bits > 1 else torch.ones(4))


@pytest.mark.parametrize("bits", range(2, 9))
def test_levels(bits: int):
    n = 2**bits - 1
    values = quantize_weight(torch.linspace(-1.0, 1.0, 20_001), bits).unique()
    assert len(values) == 2**bits
    torch.testing.assert_close(values, torch.arange(-n, n + 1, 2) / n, rtol=0, atol=1.2e-7)
    assert values[0] == -1
    assert values[-1] == 1
    assert (values.abs() > 0.9 / n).all()  # never 0
    codes = torch.arange(n + 1, dtype=torch.float32)
    assert torch.equal(values, codes * (2 / n) - 1)  # as a DequantizeLinear and a Sub give them
    acts = quantize_activation(torch.linspace(-0.5, 1.5, 20_001), bits).unique()
    assert torch.equal(acts, torch.arange(n + 1) / n)


@given(st.floats(-2, 2, width=32), st.sampled_from(list(BITS)))
@settings(max_examples=300, deadline=None)
def test_activations_equal_the_loops(value: float, bits: int):
    a = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    found = quantize_activation(a, bits)
    assert found.item() == reference.activation(value, bits)
    found.backward()
    assert a.grad.item() == reference.activation_gradient(value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", BITS)
def test_every_16_bit_activation_gives_the_nearest_value_to_its_level(dtype: torch.dtype, bits: int):
    """All 65,536 numbers, infinities and subnormals too: rounded once, from the exact product."""
    every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[~every.isnan()]
    n = 2**bits - 1
    exact = (torch.round(n * every.double().clamp(0, 1)) / n).to(dtype)
    leaf = every.clone().requires_grad_()
    found = quantize_activation(leaf, bits)
    assert torch.equal(found, exact)
    found.backward(torch.ones_like(found))
    assert torch.equal(leaf.grad, ((every >= 0) & (every <= 1)).to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights_are_quantized_in_float32(dtype: torch.dtype):
    w = draw(500, dtype=dtype)
    assert torch.equal(quantize_weight(w, 4), quantize_weight(w.float(), 4).to(dtype))
    assert len(quantize_weight(w, 4).unique()) == 16


def test_gradients_at_the_bounds_of_float32():
    edges = torch.tensor([-1e-45, -0.0, 0.0, 1e-45, 1.0], dtype=torch.float32)
    edges = torch.cat([edges, torch.nextafter(edges[-1:], torch.tensor([2.0]))]).requires_grad_()
    quantize_activation(edges, 2).sum().backward()
    assert edges.grad.tolist() == [0, 1, 1, 1, 1, 0]


def test_common_variants_are_others():
    """What ports of DoReFa do instead; the first and third change values, the second the largest weight's gradient."""
    w, n = draw(64, seed=3, dtype=torch.float32), 15
    ours = quantize_weight(w, 4)
    t = torch.tanh(w)
    times_maximum = ours * t.abs().max()
    affine = torch.fake_quantize_per_tensor_affine(w, float(w.abs().max() / 7), 0, -8, 7)
    assert (ours - times_maximum).abs().max() > 0.01
    assert (ours - affine).abs().max() > 0.01

    detached = torch.tensor([-1, -0.5, 0.2, 0.5], dtype=torch.float64, requires_grad=True)
    t = torch.tanh(detached)
    (torch.tensor([1.0, 2, 3, 4], dtype=torch.float64) * (t / t.abs().max().detach())).sum().backward()
    assert abs(detached.grad[0].item() - 0.55144113) < 1e-8  # the specification's number for this mistake
    activations = torch.linspace(0, 1, 1001)
    floor = torch.floor(activations * n + 0.5) / n  # half up: differs where n*a is an even number and a half
    assert (floor != quantize_activation(activations, 4)).any()


def test_32_bits_are_the_identity_and_a_relu():
    w, a = draw(5), torch.tensor([-1.0, 0.5, 7.0])
    assert quantize_weight(w, 32) is w
    assert quantize_activation(a, 32).tolist() == [0.0, 0.5, 7.0]


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_memory_format_stays(bits: int):
    x = draw(2, 8, 4, 4, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    for function in (quantize_weight, quantize_activation):
        found = function(x, bits)
        assert found.is_contiguous(memory_format=torch.channels_last)
        # The one-bit mean is a sum in the order of the memory.
        tolerance = 1e-6 if bits == 1 and function is quantize_weight else 0
        torch.testing.assert_close(found, function(x.contiguous(), bits), rtol=tolerance, atol=0)
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    grad = draw(2, 8, 4, 4, seed=1, dtype=torch.float32)
    quantize_weight(leaf, bits).backward(grad)  # the gradient in another format than the weight
    other = x.contiguous().requires_grad_()
    quantize_weight(other, bits).backward(grad)
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_autocast_casts_the_weight_and_keeps_the_activation():
    conv = nn.Conv2d(4, 4, 3)
    images = torch.rand(2, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = quantize_weight(conv.weight, 4)
        out = nn.functional.conv2d(images, weight)
        act = quantize_activation(out, 4)
    assert (weight.dtype, out.dtype, act.dtype) == (torch.float32, torch.bfloat16, torch.bfloat16)
    act.float().sum().backward()
    assert conv.weight.grad.dtype == torch.float32
    assert conv.weight.grad.isfinite().all()


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_asks_the_device(bits: int, dtype: torch.dtype):
    """Fake tensors have no values: whatever would wait for the device raises. So a CUDA graph can hold all of it."""
    with FakeTensorMode():
        w = torch.randn(4, 4, 3, 3, dtype=dtype, requires_grad=True)
        a = torch.randn(2, 4, 8, 8, dtype=dtype, requires_grad=True)
        loss = quantize_weight(w, bits).float().sum() + quantize_activation(a, bits).float().sum()
        loss.backward()
        assert w.grad.shape == w.shape
        assert a.grad.dtype == dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_gives_the_same():
    w, a = (draw(8, 8, 3, 3, seed=s, dtype=torch.float32).cuda().requires_grad_() for s in (0, 1))

    found: list[Tensor] = []

    def run() -> None:
        out = nn.functional.conv2d(quantize_activation(a, 4), quantize_weight(w, 4), padding=1)
        found[:] = [out.detach(), *torch.autograd.grad(out.square().sum(), (w, a))]

    recorder = GraphRecorder()
    recorder.warm_up(run)
    expected = [one.clone() for one in found]
    replay = recorder.record(run)
    for one in found:
        one.zero_()
    replay()
    for one, other in zip(found, expected, strict=True):
        assert other.any()
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bits", [0, 9, 16, 33, -1])
def test_bits_out_of_range(bits: int):
    for function in (quantize_weight, quantize_activation):
        with pytest.raises(
            InputError, match=f"`bits` must be 1 to 8, or 32 \\(full precision\\), got {bits}"
        ):
            function(torch.rand(3), bits)


@pytest.mark.parametrize("bits", [2.0, "4", None, True])
def test_bits_of_another_type(bits: object):
    with pytest.raises(InputTypeError, match="`bits` must be 1 to 8, or 32"):
        check_bits("bits", bits)


def test_integers_are_refused():
    with pytest.raises(
        InputTypeError, match="`weight` must be a floating-point tensor, got a tensor of torch.int64"
    ):
        quantize_weight(torch.arange(3), 4)
    with pytest.raises(
        InputTypeError, match="`activation` must be a floating-point tensor, got a tensor of torch.uint8"
    ):
        quantize_activation(torch.zeros(3, dtype=torch.uint8), 4)
