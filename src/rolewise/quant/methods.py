"""The table of quantizers."""

from collections.abc import Mapping

from rolewise.errors import InputError, unknown
from rolewise.quant.lsq import LSQ
from rolewise.quant.method import DoReFa, Method
from rolewise.quant.pact import PACT

METHODS: Mapping[str, Method] = {method.name: method for method in (DoReFa(), LSQ(), PACT())}


def find_method(name: str) -> Method:
    """The method of this name.

    Raises:
        InputError: no method bears the name.
    """
    if name not in METHODS:
        raise InputError(unknown("quantization method", name, METHODS))
    return METHODS[name]
