"""Codes of weights, and how they decode."""

import pytest
import torch

from rolewise.errors import InputError
from rolewise.networks import build
from rolewise.quant import Grid, decode_weights, quantize
from rolewise.quant.layers import quantized_weights


@pytest.mark.parametrize(
    ("method", "bits"),
    [("dorefa", b) for b in range(1, 9)] + [("lsq", b) for b in range(2, 9)] + [("pact", 2)],
)
def test_codes_decode_to_the_weights_bit_for_bit(method: str, bits: int):
    model = quantize(build("cnn-tiny"), bits, 32, method=method)
    for layer in quantized_weights(model).values():
        weight = layer.quantized_weight().detach()
        grid = layer.weight_grid()
        codes = grid.encode(weight)
        assert codes.dtype == torch.uint8
        assert int(codes.max()) < 2**bits
        assert torch.equal(grid.decode(codes), weight)
        assert Grid.from_json(grid.to_json()) == grid
        # in Python's float64, then rounded: the formula itself
        exact = (codes.double() - grid.zero_point) * grid.scale - grid.shift
        torch.testing.assert_close(weight.double(), exact, rtol=0, atol=1.2e-7)


def test_a_tensor_of_zeros_has_codes():
    model = quantize(torch.nn.Sequential(torch.nn.Linear(3, 2)), 1, 32, skip=[])
    torch.nn.init.zeros_(model[0].weight)
    grid = model[0].weight_grid()
    assert torch.equal(grid.decode(grid.encode(model[0].quantized_weight())), torch.zeros(2, 3))


def test_weights_off_the_grid_are_refused():
    with pytest.raises(InputError, match="1 of 3 weights lie on none of the 4 levels -1 \\+ i \\* 0.666667"):
        Grid(2, scale=2 / 3, shift=1.0).encode(torch.tensor([-1.0, 0.1, float(torch.tensor(2 / 3) - 1)]))


def test_decoding_is_final():
    model = quantize(build("cnn-tiny"), 3, 2, method="lsq").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = model(x)
        decode_weights(model)
        assert torch.equal(model(x), logits)
        decode_weights(model)  # again: nothing left to do
        assert torch.equal(model(x), logits)
    assert "layer1.0.conv1.weight_step" not in model.state_dict()
