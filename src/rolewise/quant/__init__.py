"""Low-bit weights and activations: `quantize` a network, and the quantizers themselves."""

from rolewise.quant.dorefa import quantize_activation, quantize_weight
from rolewise.quant.grid import Grid
from rolewise.quant.methods import METHODS
from rolewise.quant.model import LayerBits, apply_quantization, quantization, quantize, quantized_layers
from rolewise.quant.modes import calibrate, decode_weights, frozen_weights, remove_quantizers

__all__ = [
    "METHODS",
    "Grid",
    "LayerBits",
    "apply_quantization",
    "calibrate",
    "decode_weights",
    "frozen_weights",
    "quantization",
    "quantize",
    "quantize_activation",
    "quantize_weight",
    "quantized_layers",
    "remove_quantizers",
]
