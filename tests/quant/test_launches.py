"""Launches of a training step as a GPU runs it: counted, and equal in value to the layer-by-layer form.

The kernels' plain forms stand in for Triton's, so that the path of a GPU is taken on a CPU.
"""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rolewise.networks import build
from rolewise.quant import kernels, passes, quantize, quantize_weight
from rolewise.quant.flat import make_layout, quantize_together
from rolewise.quant.flat_steps import lsq_together
from rolewise.quant.layers import quantized_weights

ROOT = Path(__file__).resolve().parents[2]
VIEWS = {
    "view",
    "as_strided",
    "t",
    "transpose",
    "permute",
    "detach",
    "alias",
    "expand",
    "_unsafe_view",
    "unsqueeze",
}


class Count(TorchDispatchMode):
    """How many operations that are no views are dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name not in VIEWS:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def gpu_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU with Triton does."""
    monkeypatch.setattr(kernels, "usable", lambda x: True)
    monkeypatch.setattr(passes, "_on_gpu", lambda model: True)


def step(model: nn.Module, images: Tensor, half: bool = True) -> list[str]:
    """The operations of forward and backward under autocast."""
    labels = torch.arange(len(images)) % 10
    with Count() as count:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
    return count.names


def images(n: int = 4, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_low_bit_step_takes_at_most_1_3_times_a_float_steps_operations(gpu_path: None):
    """ResNet18, 19 low-bit weight tensors and 16 activations."""
    plain = build("resnet18").train()
    low = quantize(copy.deepcopy(plain), 4, 4, method="dorefa")
    before, after = step(plain, images()), step(low, images())
    assert len(after) <= 1.3 * len(before), (len(before), len(after))
    assert after.count("weight_levels") == after.count("weight_gradient") == 1
    assert after.count("activation_levels") == 16
    assert "tanh" not in after


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_all_layers_at_once_equal_layer_by_layer(
    monkeypatch: pytest.MonkeyPatch, channels_last: bool, half: bool
):
    one = quantize(build("resnet8-small"), 2, 4, layers={"layer1": (3, 8), "layer3.0.conv1": (1, 4)})
    if channels_last:
        one.to(memory_format=torch.channels_last)
    other = copy.deepcopy(one)
    x = images()
    plainly = step(one, x, half)
    monkeypatch.setattr(kernels, "usable", lambda x: True)
    monkeypatch.setattr(passes, "_on_gpu", lambda model: True)
    together = step(other, x, half)
    assert "weight_levels" in together
    assert "weight_levels" not in plainly
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        # The sums over a layer are taken in another order.
        torch.testing.assert_close(a.grad, b.grad, rtol=2e-5, atol=1e-6, msg=name)
        assert matter(a.grad) == matter(b.grad)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("method", ["lsq", "pact"])
def test_learned_quantizers_at_once_equal_layer_by_layer(
    monkeypatch: pytest.MonkeyPatch, method: str, half: bool
):
    one = quantize(build("resnet8-small"), 2, 4, layers={"layer1": (3, 8)}, method=method)
    one.to(memory_format=torch.channels_last)
    for name, value in one.named_parameters():
        if name.endswith("act_step"):
            value.data.mul_(0.7)
    other = copy.deepcopy(one)
    x = images()
    plainly = step(one, x, half)
    monkeypatch.setattr(kernels, "usable", lambda x: True)
    monkeypatch.setattr(passes, "_on_gpu", lambda model: True)
    together = step(other, x, half)
    assert {"lsq": "step_levels", "pact": "clip_levels"}[method] in together
    assert len(together) < 0.7 * len(plainly), (len(together), len(plainly))
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        # The sums over a layer or an activation are taken in another order, in bfloat16 or in float32.
        if half and a.ndim == 0:
            torch.testing.assert_close(a.grad, b.grad, rtol=2e-2, atol=1e-3, msg=name)
        else:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)
        assert matter(a.grad) == matter(b.grad)


def test_steps_of_all_layers_equal_the_equation_layer_by_layer():
    """Layers smaller and larger than a block, of other bits, one of zeros; to the bit, but for the order of sums."""
    draw = torch.Generator().manual_seed(0)
    sizes, bits = (5000, 1, kernels.BLOCK, 2 * kernels.BLOCK + 3, 7), (2, 3, 4, 8, 2)
    layers, upstream = [], []
    for size, width in zip(sizes, bits, strict=True):
        layer = quantize(nn.Sequential(nn.Linear(size, 1, bias=False)), width, 32, skip=[], method="lsq")[0]
        layer.weight.data.copy_(torch.randn(1, size, generator=draw))
        layer.weight_step.data.fill_(0.4)
        layers.append(layer)
        upstream.append(torch.randn(1, size, generator=draw))
    layers[4].weight.data.zero_()
    together = lsq_together(layers, torch.float32, {})
    for layer, found, grad in zip(layers, together, upstream, strict=True):
        expected = layer.quantized_weight()
        assert torch.equal(found, expected)
        leaves = layer.weight, layer.weight_step
        a = torch.autograd.grad(found, leaves, grad, retain_graph=True)
        b = torch.autograd.grad(expected, leaves, grad)
        assert torch.equal(a[0], b[0])
        torch.testing.assert_close(a[1], b[1], rtol=1e-5, atol=1e-6)


def test_a_step_of_lsq_and_pact_takes_at_most_1_35_times_a_float_steps_operations(gpu_path: None):
    """And as many as the page says, within what another PyTorch may change."""
    plain = build("resnet18").train()
    before = len(step(copy.deepcopy(plain), images()))
    stated = re.search(
        r"dispatches (\d+) operations .* (\d+) without quantization; PACT takes (\d+) and LSQ (\d+)",
        " ".join((ROOT / "docs" / "quantization.md").read_text("utf-8").split()),
    )
    assert stated is not None
    dorefa, none, pact, lsq = map(int, stated.groups())
    assert before == pytest.approx(none, rel=0.05)
    for method, count in (("lsq", lsq), ("pact", pact), ("dorefa", dorefa)):
        after = len(step(quantize(copy.deepcopy(plain), 4, 4, method=method), images()))
        assert after <= 1.35 * before, (method, before, after)
        assert after == pytest.approx(count, rel=0.05), method


def matter(x: Tensor) -> list[int]:
    """The strides of dimensions with more than one entry."""
    return [stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1]


def test_a_pass_without_gradients_and_a_part_of_the_network(gpu_path: None):
    """What was made without a gradient does not serve a forward pass with one, nor another type."""
    model = quantize(build("cnn-tiny"), 2, 2).eval()
    plain = copy.deepcopy(model)
    conv = model.layer1[0].conv1
    seen = []
    handle = conv.register_forward_pre_hook(lambda *_: seen.append(conv.quantized_weight()))

    def look(*_: object) -> None:
        with torch.enable_grad():
            seen.append(conv.quantized_weight())

    with torch.no_grad():
        assert torch.equal(model(images()), plain(images()))
        handle.remove()
        handle = conv.register_forward_pre_hook(look)
        model(images())
    handle.remove()
    assert not seen[0].requires_grad
    assert seen[1].requires_grad
    assert not model._low_bit_passes.running
    conv(torch.rand(1, 8, 4, 4)).sum().backward()  # outside of a forward pass of the network
    assert conv.weight.grad.abs().sum() > 0


def test_a_layer_without_a_gradient_gets_none(gpu_path: None):
    model = quantize(build("cnn-tiny"), 2, 2)
    layers = list(quantized_weights(model).values())
    handle = layers[1].register_forward_hook(lambda _m, _i, output: output.detach())
    with Count() as count:
        model(images()).sum().backward()
    handle.remove()
    assert layers[1].weight.grad is None
    assert layers[2].weight.grad is not None
    assert "weight_gradient" in count.names


def test_checkpointed_blocks_recompute_what_they_saved(gpu_path: None):
    model = quantize(build("cnn-tiny"), 2, 2)
    other = copy.deepcopy(model)
    block = other.layer1
    forward = block.forward
    block.forward = lambda x: torch.utils.checkpoint.checkpoint(forward, x, use_reentrant=False)
    for network in (model, other):
        network(images()).square().sum().backward()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", range(2, 9))
def test_levels_of_a_flat_tensor_are_the_layers_to_the_bit(bits: int):
    """Layers smaller and larger than a block, one of zeros, one whose maximum is shared."""
    draw = torch.Generator().manual_seed(bits)
    sizes = (5000, 1, kernels.BLOCK, 2 * kernels.BLOCK + 3, 7)
    weights = [torch.randn(size, generator=draw) for size in sizes]
    weights[0][:3] = weights[0].abs().max()
    weights[4].zero_()
    leaves = [one.clone().requires_grad_() for one in weights]
    layout = make_layout(sizes, [bits] * 5, torch.device("cpu"))
    together = quantize_together(leaves, layout, torch.float32)
    upstream = [torch.randn(size, generator=draw) for size in sizes]
    for level, leaf, grad in zip(together, leaves, upstream, strict=True):
        alone = leaf.detach().clone().requires_grad_()
        expected = quantize_weight(alone, bits)
        assert torch.equal(level, expected)
        expected.backward(grad)
        (found,) = torch.autograd.grad(level, leaf, grad, retain_graph=True)
        # The gradient of the maximum is a sum over the layer, taken in another order.
        torch.testing.assert_close(found, alone.grad, rtol=1e-5, atol=1e-5)


def test_triton_equals_the_plain_forms():
    """In Triton's interpreter, which truncates to bfloat16 where a GPU rounds: there the next value is allowed."""
    pytest.importorskip("triton", reason="Triton is not installed")
    script = """
import torch
from rolewise.quant import kernels, triton_kernels
from rolewise.quant.flat import make_layout
draw = torch.Generator().manual_seed(0)
sizes = (5000, 1, kernels.BLOCK, 2 * kernels.BLOCK + 3, 7)
layout = make_layout(sizes, (4, 3, 2, 8, 5), torch.device("cpu"))
table, chunk = layout.table, layout.chunk
weight = torch.randn(sum(sizes), generator=draw)
weight[:3] = weight[:5000].abs().max()
tanh = torch.tanh(weight)
tanh[-7:] = 0
maxima = kernels.block_maxima(tanh, table)
assert torch.equal(maxima, triton_kernels.block_maxima(tanh, table))
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    def same(a, b):
        assert a.dtype == b.dtype
        a, b = a.float().nan_to_num(), b.float().nan_to_num()
        assert ((a - b).abs() <= (2**-7 * a.abs() if dtype == torch.bfloat16 else 0)).all(), dtype
    grad = torch.randn(sum(sizes), generator=draw).to(dtype)
    given = tanh, maxima, table, layout.steps, chunk, dtype
    same(kernels.weight_levels(*given), triton_kernels.weight_levels(*given))
    sums = kernels.block_sums(grad, tanh, maxima, table, chunk)
    torch.testing.assert_close(sums, triton_kernels.block_sums(grad, tanh, maxima, table, chunk))
    given = grad, tanh, maxima, sums, table, chunk
    torch.testing.assert_close(kernels.weight_gradient(*given), triton_kernels.weight_gradient(*given))
    x = torch.randn(3000, generator=draw)
    x = torch.cat([x, torch.tensor([float("nan"), float("inf"), -float("inf"), 1, 0, -0.0])]).to(dtype)
    for n in (1, 3, 15, 127, 255):
        a, b = kernels.activation_levels(x, n), triton_kernels.activation_levels(x, n)
        same(a, b)
        assert b[3000].isnan() and b[3001] == 1 and b[3002] == 0
    x[-3:] = torch.tensor([0.15, -0.3, 0.3])  # bounds, at 0.3 times -1 / 2, -1 and 1
    grad = torch.randn(len(x), generator=draw).to(dtype)
    step, clip = torch.tensor(0.3), torch.tensor(0.3)
    for low, high in ((-1, 1), (-8, 7), (0, 15)):
        a = kernels.step_levels(x, step, low, high), *kernels.step_gradient(grad, x, step, low, high, 0.5)
        b = triton_kernels.step_levels(x, step, low, high), *triton_kernels.step_gradient(grad, x, step, low, high, 0.5)
        same(a[0], b[0]), same(a[1], b[1])
    finite = torch.nan_to_num(x, 2, 3, -3)
    a, b = (form.step_gradient(grad, finite, step, -8, 7, 0.5)[1].sum() for form in (kernels, triton_kernels))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    for n in (1, 15, 255):
        same(kernels.clip_levels(x, clip, n), triton_kernels.clip_levels(x, clip, n))
    a, b = kernels.clip_gradient(grad, x, clip), triton_kernels.clip_gradient(grad, x, clip)
    same(a[0], b[0])
    torch.testing.assert_close(a[1].sum(), b[1].sum(), rtol=1e-4, atol=1e-4)
print("same")
"""
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert found.stdout.startswith("same"), found.stderr
