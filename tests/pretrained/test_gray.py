"""Networks of one channel: exported files take gray images and compute what the network computes."""

import pytest
import torch
from torch import nn

import rolewise as rw
from rolewise.pretrained import any_network
from rolewise.pretrained.costs import layer_costs


def network():
    layers = [
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers, nn.Linear(8, 4))


@pytest.mark.parametrize(("name", "package"), [("gray.onnx", "onnxruntime"), ("gray.xml", "openvino")])
def test_a_gray_network_is_exported(tmp_path, name, package):
    pytest.importorskip(package)
    torch.manual_seed(0)
    model = rw.quantize(network(), 4, 4, act_points=["1", "3"]).eval()
    path = rw.export(model, tmp_path / name, image_size=(10, 12))
    images = torch.rand(3, 1, 10, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = (any_network(path)(images) - model(images)).abs().max()
    assert difference < (
        1e-4 if name.endswith("onnx") else 0.05
    )  # OpenVINO rounds some sums to 8 bits at other places


def test_its_costs_are_counted():
    """3 x 3 taps of one channel at 8 x 8 places, then of eight at 6 x 6."""
    found = [layer.macs for layer in layer_costs(network(), (10, 10))]
    assert found == [8 * 64 * 9, 8 * 36 * 9 * 8, 8 * 4]
