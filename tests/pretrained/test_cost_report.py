"""Operations by bit-width counted by hand, sizes, and what the report says."""

import json
import re
import sys

import pytest
import torch
from torch import nn

from rolewise.errors import MissingExtraError
from rolewise.networks import build
from rolewise.pretrained import cost_report, format_report, layer_costs
from rolewise.pretrained.costs import FUNCTIONS, LayerCost, macs_by_bits
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
    report = cost_report(model, batches=(1, 8), seconds=0.05, rounds=2)
    assert model.training
    json.dumps(report)
    files = report["files"]
    assert set(files) == {"float32", "low-bit"}
    for form in ("safetensors_bytes", "onnx_bytes"):
        assert files["low-bit"][form] < files["float32"][form]
    names = set(report["latency_ms"])
    assert names - {"OpenVINO bfloat16"} == {
        "PyTorch float32",
        "onnxruntime float32",
        "onnxruntime low-bit",
        "OpenVINO float32",
        "OpenVINO low-bit",
    }
    assert all(value > 0 for entry in report["latency_ms"].values() for value in entry.values())
    assert (
        report["weights"]["quantized"]
        == 576 * 2 + 8 * 16 * 9 + 16 * 16 * 9 + 128 + 16 * 32 * 9 + 32 * 32 * 9 + 512
    )
    assert report["weights"]["float32_bytes"] == 16 * report["weights"]["packed_bytes"]
    low = sum(entry["macs"] for entry in report["macs"] if entry["weight_bits"] == 2)
    assert report["executed"] == {
        "int8_macs": low,
        "float_macs": sum(entry["macs"] for entry in report["macs"]) - low,
        "float_layers": [],
    }
    text = format_report(report)
    assert f"{files['low-bit']['onnx_bytes']:,} B" in text
    assert "2-bit weights x 2-bit activations" in text
    assert "its arithmetic is not low-bit" in text
    assert report["hardware"]["cpu"] in text
    assert "1 thread, 32x32 pixels" in text
    assert re.search(r"onnxruntime float32 +[\d.]+ ms +[\d.]+ ms   1.0x, 1.0x", text)


def test_the_report_names_layers_that_run_in_float():
    low = quantize(build("cnn-tiny"), 8, 8, layers={"layer1": (4, 4)}, skip=["fc"])
    report = cost_report(low, batches=(1,), seconds=0.01, rounds=1)
    reasons = {entry["name"]: entry["reason"] for entry in report["executed"]["float_layers"]}
    assert reasons["conv1"] == "it reads float values: no act point lies before it"
    assert reasons["layer3.0.conv1"] == "its 8-bit weights (2 c - 255) / 255 do not fit int8"
    assert len(reasons) == 7
    assert "Quantized layers in float32 (7):" in format_report(report)


def test_the_report_of_a_float_network():
    report = cost_report(build("cnn-tiny"), batches=(1,), seconds=0.01, rounds=1)
    assert set(report["files"]) == {"float32"}
    assert "float32 weights x float32 activations" in format_report(report)


class Kinds(nn.Module):
    """Layers of all kinds, and matrix products that no layer does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 4, 3, 2, groups=2)
        self.line, self.fc = nn.Conv1d(4, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.line(self.up(self.conv(x)).flatten(2))
        return self.fc((rows @ rows.transpose(1, 2)).mean(2))


def test_every_kind_of_layer_and_products_outside_of_layers():
    """Counted by hand: 16x16 pixels, 33x33 after the transposed convolution."""
    found = {cost.name: cost.macs for cost in layer_costs(Kinds().eval(), (16, 16))}
    assert found == {
        "conv": 3 * 8 * 9 * 256,
        "up": 8 * 256 * 2 * 9,
        "line": 4 * 8 * 3 * 33 * 33,
        "fc": 32,
        FUNCTIONS: 8 * 8 * 33 * 33,
    }


@pytest.mark.parametrize("name", ["resnet20", "wrn-16-2", "resnet8-small"])
def test_averages_are_no_levels(name: str):
    costs = {cost.name: cost.input_bits for cost in layer_costs(quantize(build(name), 8, 8))}
    assert costs["fc"] == 32
    assert {bits for layer, bits in costs.items() if layer.endswith("conv2")} == {8}


@pytest.mark.parametrize("method", ["lsq", "pact"])
def test_learned_quantizers_are_counted_too(method: str):
    found = macs_by_bits(layer_costs(quantize(build("cnn-tiny"), 3, 2, method=method)))
    assert set(found) == {(3, 2), (32, 32)}
    assert torch.is_grad_enabled()


def test_the_report_where_openvino_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    gray = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten())
    model = quantize(gray, 2, 2, act_points=["1"], skip=[])
    with pytest.raises(MissingExtraError, match="openvino"):
        cost_report(model, image_size=(5, 5), batches=(1,), seconds=0.01, rounds=1)
    report = cost_report(model, image_size=(5, 5), batches=(1,), seconds=0.01, rounds=3, openvino=None)
    assert set(report["latency_ms"]) == {"PyTorch float32", "onnxruntime float32", "onnxruntime low-bit"}
    assert set(report["files"]["low-bit"]) == {"safetensors_bytes", "onnx_bytes"}
    assert set(report["versions"]) == {"onnxruntime", "torch"}
    assert report["executed"] is None
    assert report["turns"]["1"] >= 3
    text = format_report(report)
    assert "OpenVINO" not in text
    assert re.search(r"bytes +\.safetensors +\.onnx\n", text)
