"""torch.compile equals eager: levels, values, gradients; as many levels as the bits give, no gradient of 0.

In a process of its own: dynamo does not look through the checks of shapes. `aot_eager` records what a compiler gets;
Inductor, which turns it into kernels, takes minutes.
"""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import copy, sys
import torch
from torch import nn
from rolewise.quant import quantize

backend, methods = sys.argv[1], sys.argv[2].split(",")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.relu = nn.Conv2d(3, 8, 3, bias=False), nn.ReLU()
        self.two, self.last, self.fc = nn.Conv2d(8, 8, 3), nn.ReLU(inplace=True), nn.Linear(8, 4)

    def forward(self, x):
        x = self.relu(self.one(x) * 2)
        y = self.last(self.two(x))
        z = nn.functional.conv2d(x, self.two.weight)  # a weight that is read, not called
        return x, y, z, self.fc(y.mean((2, 3)))


images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
for method in methods:
    for bits, half, grad_bits in ((2, False, 32), (4, True, 32), (4, False, 6)):
        if grad_bits < 32 and backend == "inductor":
            continue  # its C++ does not take the 64-bit constants that the noise is drawn with
        torch.manual_seed(0)
        model = quantize(Net(), bits, bits, ["relu", "last"], [], method=method, grad_bits=grad_bits)
        other = copy.deepcopy(model)
        torch._dynamo.reset()
        compiled = torch.compile(other, backend=backend, fullgraph=True, dynamic=False)
        results = []
        for network, call in ((model, model), (other, compiled)):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                x, y, z, logits = call(images)
            weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
            (logits.float().square().sum() + (y.float() * weights).sum() + z.float().square().mean()).backward()
            results.append((x.detach(), y.detach(), z.detach(), [p.grad for p in network.parameters()]))
        (x, y, z, grads), (cx, cy, cz, compiled_grads) = results
        case = method, bits, half, grad_bits
        assert 2 ** (bits - 1) < len(cx.unique()) <= 2**bits, (*case, len(cx.unique()))
        exact = backend == "aot_eager"
        # A sum in another order may move a value across a border between two levels.
        assert (x != cx).float().mean() <= (0 if exact else 0.002), case
        assert (y != cy).float().mean() <= (0 if exact else 0.002), case
        for one, two in zip(grads, compiled_grads, strict=True):
            assert two.abs().sum() > 0, case
            apart = ((one - two).norm() / one.norm()).item()
            assert apart < (1e-4 if exact or not half else 3e-2), (*case, apart)
print("same")
"""


def run(*arguments: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=550,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.stdout.startswith("same"), found.stderr


def test_recorded_graphs_equal_eager():
    run("aot_eager", "dorefa,lsq,pact")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dorefa", "lsq", "pact"])
def test_inductors_kernels_equal_eager(method: str):
    run("inductor", method)
