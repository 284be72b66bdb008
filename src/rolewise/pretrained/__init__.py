"""Networks on disk: save, load and rebuild them, in full precision, packed, as ONNX or for OpenVINO."""

from rolewise.pretrained.card import from_pretrained, model_card, save_pretrained
from rolewise.pretrained.description import digest
from rolewise.pretrained.files import describe, load_network, save_network
from rolewise.pretrained.formats import export
from rolewise.pretrained.info import NetworkInfo, Preprocessing
from rolewise.pretrained.onnx_network import onnx_network
from rolewise.pretrained.openvino_network import openvino_network
from rolewise.pretrained.report import cost_report, format_report, layer_costs

__all__ = [
    "NetworkInfo",
    "Preprocessing",
    "cost_report",
    "describe",
    "digest",
    "export",
    "format_report",
    "from_pretrained",
    "layer_costs",
    "load_network",
    "model_card",
    "onnx_network",
    "openvino_network",
    "save_network",
    "save_pretrained",
]
