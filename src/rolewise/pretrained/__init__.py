"""Networks that outlive the process: save, load and rebuild them, in full precision, packed, or as ONNX."""

from rolewise.pretrained.card import from_pretrained, model_card, save_pretrained
from rolewise.pretrained.description import digest
from rolewise.pretrained.files import describe, load_network, save_network
from rolewise.pretrained.formats import export
from rolewise.pretrained.onnx_network import onnx_network
from rolewise.pretrained.report import cost_report, format_report, layer_costs
from rolewise.pretrained.weights import load_weights, read_weights

__all__ = [
    "cost_report",
    "describe",
    "digest",
    "export",
    "format_report",
    "from_pretrained",
    "layer_costs",
    "load_network",
    "load_weights",
    "model_card",
    "onnx_network",
    "read_weights",
    "save_network",
    "save_pretrained",
]
