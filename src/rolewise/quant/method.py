"""The table of quantization methods: a quantizer of weights and one of activations each."""

from collections.abc import Mapping
from dataclasses import dataclass

from rolewise.errors import InputError, unknown
from rolewise.quant.base import ActivationQuantizer, WeightQuantizer
from rolewise.quant.dorefa import DoReFaActivations, DoReFaWeights
from rolewise.quant.lsq import LSQActivations, LSQWeights
from rolewise.quant.pact import PACTActivations


@dataclass(frozen=True)
class Method:
    """How a network is quantized.

    Args:
        name: key of `METHODS`, and the name in the description of a network.
        weights: quantizer of the layers' weights.
        activations: quantizer at the act points.
        about: description in one phrase.
    """

    name: str
    weights: WeightQuantizer
    activations: ActivationQuantizer
    about: str


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("dorefa", DoReFaWeights(), DoReFaActivations(), "nothing learned (Zhou et al., 2016)"),
        Method("lsq", LSQWeights(), LSQActivations(), "learned steps (Esser et al., ICLR 2020)"),
        Method(
            "pact", DoReFaWeights(), PACTActivations(), "learned bound of activations (Choi et al., 2018)"
        ),
    )
}


def find_method(name: str) -> Method:
    """The method of this name.

    Raises:
        InputError: no method bears the name.
    """
    if name not in METHODS:
        raise InputError(unknown("quantization method", name, METHODS))
    return METHODS[name]
