"""Operations by bit-width counted by hand, sizes, and what the report says."""

import json

import pytest
import torch
from torch import nn

from rolewise.networks import build
from rolewise.pretrained import cost_report, format_report, layer_costs
from rolewise.pretrained.report import LayerCost, macs_by_bits
from rolewise.quant import quantize


def test_operations_of_resnet18_by_hand():
    """The multiply-accumulates of the architecture, width by width: 32, 16, 8, 4 pixels."""
    low = 4 * 64 * 64 * 9 * 32**2
    for inputs, width, size in ((64, 128, 16), (128, 256, 8), (256, 512, 4)):
        low += (inputs * width * 9 + 3 * width * width * 9 + inputs * width) * size**2
    plain = 3 * 64 * 9 * 32**2 + 512 * 10
    found = macs_by_bits(layer_costs(quantize(build("resnet18"), 2, 4)))
    assert found == {(2, 4): low, (32, 32): plain}
    assert macs_by_bits(layer_costs(build("resnet18"))) == {(32, 32): low + plain}


def test_layers_of_mixed_widths():
    model = quantize(build("cnn-tiny", num_classes=5), 2, 4, layers={"layer2": (8, 2), "fc": 4})
    found = {cost.name: cost for cost in layer_costs(model, (16, 16))}
    assert found["conv1"] == LayerCost("conv1", 3 * 8 * 9 * 64, 216, 32, 32)
    assert found["layer1.0.conv1"] == LayerCost("layer1.0.conv1", 8 * 8 * 9 * 64, 576, 2, 4)
    assert found["layer2.0.conv2"] == LayerCost("layer2.0.conv2", 16 * 16 * 9 * 16, 2304, 8, 2)
    assert found["fc"] == LayerCost("fc", 160, 160, 4, 32)  # its input is a mean
    assert next(iter(found)) == "conv1"


def test_pooling_keeps_levels_and_grouped_convolutions_count_their_groups():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, groups=4, padding=1)
    )
    costs = layer_costs(quantize(model, 2, 3, act_points=["1"], skip=[]), (8, 8))
    assert costs[1] == LayerCost("3", 8 * 1 * 9 * 16, 72, 2, 3)


def test_the_report():
    model = quantize(build("cnn-tiny"), 2, 2).train()
    report = cost_report(model, batches=(1, 8), seconds=0.05)
    assert model.training
    json.dumps(report)
    files = report["files"]
    assert set(files) == {"float32", "quantized"}
    assert files["quantized"]["safetensors_bytes"] < files["float32"]["safetensors_bytes"]
    assert files["quantized"]["onnx_bytes"] < files["float32"]["onnx_bytes"]
    assert all(value > 0 for entry in files.values() for value in entry["latency_ms"].values())
    assert (
        report["weights"]["quantized"]
        == 576 * 2 + 8 * 16 * 9 + 16 * 16 * 9 + 128 + 16 * 32 * 9 + 32 * 32 * 9 + 512
    )
    assert report["weights"]["float32_bytes"] == 16 * report["weights"]["packed_bytes"]
    text = format_report(report)
    assert f"{files['quantized']['onnx_bytes']:,} B" in text
    assert "2-bit weights x 2-bit activations" in text
    assert "the arithmetic is not low-bit" in text
    assert report["hardware"]["cpu"] in text
    assert "1 thread, 32x32 pixels, median" in text


def test_the_report_of_a_float_network():
    report = cost_report(build("cnn-tiny"), batches=(1,), seconds=0.01)
    assert set(report["files"]) == {"float32"}
    assert "float32 weights x float32 activations" in format_report(report)


@pytest.mark.parametrize("method", ["lsq", "pact"])
def test_learned_quantizers_are_counted_too(method: str):
    found = macs_by_bits(layer_costs(quantize(build("cnn-tiny"), 3, 2, method=method)))
    assert set(found) == {(3, 2), (32, 32)}
    assert torch.is_grad_enabled()
