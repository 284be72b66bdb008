"""Low-bit weights and activations: `quantize` a network, and the quantizers themselves."""

from rolewise.quant.convert import calibrate, decode_weights, frozen_weights, remove_quantizers
from rolewise.quant.dorefa import quantize_activation, quantize_weight
from rolewise.quant.grid import Grid
from rolewise.quant.ladder import changed_share, lift_bits, quantizer_parameters, weight_codes
from rolewise.quant.method import METHODS
from rolewise.quant.model import LayerBits, apply_quantization, quantization, quantize, quantized_layers
from rolewise.quant.tracing import bare_graph

__all__ = [
    "METHODS",
    "Grid",
    "LayerBits",
    "apply_quantization",
    "bare_graph",
    "calibrate",
    "changed_share",
    "decode_weights",
    "frozen_weights",
    "lift_bits",
    "quantization",
    "quantize",
    "quantize_activation",
    "quantize_weight",
    "quantized_layers",
    "quantizer_parameters",
    "remove_quantizers",
    "weight_codes",
]
