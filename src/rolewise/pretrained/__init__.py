"""Networks on disk: save, load and rebuild them, in full precision, packed, as ONNX or for OpenVINO."""

from rolewise.pretrained.card import from_pretrained, model_card, save_pretrained
from rolewise.pretrained.classify import any_network, network_info, predict, prepare_image
from rolewise.pretrained.costs import layer_costs
from rolewise.pretrained.description import digest
from rolewise.pretrained.files import describe, load_network, save_network
from rolewise.pretrained.formats import export
from rolewise.pretrained.hub import check_repository, pull_from_hub, push_to_hub
from rolewise.pretrained.import_weights import import_weights, read_state
from rolewise.pretrained.info import NetworkInfo, Preprocessing
from rolewise.pretrained.onnx_network import onnx_network
from rolewise.pretrained.openvino_network import openvino_network
from rolewise.pretrained.report import cost_report, format_report
from rolewise.pretrained.weights import load_weights

__all__ = [
    "NetworkInfo",
    "Preprocessing",
    "any_network",
    "check_repository",
    "cost_report",
    "describe",
    "digest",
    "export",
    "format_report",
    "from_pretrained",
    "import_weights",
    "layer_costs",
    "load_network",
    "load_weights",
    "model_card",
    "network_info",
    "onnx_network",
    "openvino_network",
    "predict",
    "prepare_image",
    "pull_from_hub",
    "push_to_hub",
    "read_state",
    "save_network",
    "save_pretrained",
]
