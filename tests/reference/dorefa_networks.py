"""The paper's networks as plain functions on a state dict, in float64, quantized as the paper describes.

Shares nothing with the package but the names of the tensors.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def quantize_weight(w: Tensor, bits: int) -> Tensor:
    if bits == 32:
        return w
    t = torch.tanh(w)
    n = 2**bits - 1
    return 2 * torch.round(n * (t / (2 * t.abs().max()) + 0.5)) / n - 1


def quantize_activation(a: Tensor, bits: int) -> Tensor:
    if bits == 32:
        return torch.relu(a)
    n = 2**bits - 1
    return torch.round(n * a.clamp(0, 1)) / n


def batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, variance = state[f"{name}.running_mean"].reshape(shape), state[f"{name}.running_var"].reshape(shape)
    gamma, beta = state[f"{name}.weight"].reshape(shape), state[f"{name}.bias"].reshape(shape)
    return (x - mean) / torch.sqrt(variance + 1e-3) * gamma + beta


def resnet(
    state: State, images: Tensor, blocks: int, weight_bits: int, act_bits: int
) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the four stages' maps before the next quantizer."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def conv(name: str, x: Tensor, stride: int, bits: int = weight_bits) -> Tensor:
        w = quantize_weight(state[f"{name}.weight"], bits)
        return F.conv2d(x, w, stride=stride, padding=w.shape[2] // 2)

    x = torch.relu(batch_norm(state, "bn1", conv("conv1", images.double(), 1, bits=32)))
    maps = []
    for stage in (1, 2, 3, 4):
        for index in range(blocks):
            name = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            entry = quantize_activation(x, act_bits)
            inner = batch_norm(state, f"{name}.bn1", conv(f"{name}.conv1", entry, stride))
            inner = quantize_activation(inner, act_bits)
            inner = batch_norm(state, f"{name}.bn2", conv(f"{name}.conv2", inner, 1))
            shortcut = entry
            if stride == 2:
                shortcut = batch_norm(state, f"{name}.shortcut.1", conv(f"{name}.shortcut.0", entry, stride))
            x = torch.relu(inner + shortcut)
        maps.append(x)
    pooled = x.flatten(2).mean(2)
    return pooled @ state["fc.weight"].T + state["fc.bias"], maps


def alexnet(state: State, images: Tensor, weight_bits: int, act_bits: int) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the maps of conv2 (pooled), conv3, conv4, conv5 (pooled)."""
    state = {name: tensor.double() for name, tensor in state.items()}
    x, maps = images.double(), []
    for number, padding in ((1, 5), (2, 2), (3, 1), (4, 1), (5, 1)):
        w = quantize_weight(state[f"conv{number}.weight"], 32 if number == 1 else weight_bits)
        x = batch_norm(state, f"bn{number}", F.conv2d(x, w, padding=padding))
        x = quantize_activation(torch.relu(x), act_bits)
        if number in (1, 2, 5):
            x = F.max_pool2d(x, 2)
        maps.append(x)
    x = x.flatten(1)
    x = batch_norm(state, "bn6", x @ quantize_weight(state["fc6.weight"], weight_bits).T)
    x = quantize_activation(torch.relu(x), act_bits)
    x = torch.relu(batch_norm(state, "bn7", x @ quantize_weight(state["fc7.weight"], weight_bits).T))
    return x @ state["fc8.weight"].T, maps[1:]
