"""Launches of a training step as a GPU runs it: counted, and equal in value to the layer-by-layer form.

The kernels' plain forms stand in for Triton's, so that the path of a GPU is taken on a CPU.
"""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rolewise.networks import build
from rolewise.quant import kernels, passes, quantize, quantize_weight
from rolewise.quant.flat import make_layout, quantize_together
from rolewise.quant.layers import quantized_weights

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
        apart = (a.float().nan_to_num() - b.float().nan_to_num()).abs().max().item()
        assert apart <= (2**-8 if dtype == torch.bfloat16 else 0), (dtype, apart)
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
