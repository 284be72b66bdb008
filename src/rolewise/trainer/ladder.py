"""The rungs of a bit ladder in a training: each starts from the last with its quantizers."""

from collections.abc import Sequence

from torch import nn

from rolewise.errors import InputError
from rolewise.quant import lift_bits, quantization, quantizer_parameters
from rolewise.trainer.average import WeightAverage


def set_rung(
    model: nn.Module, rung: int, ladder: Sequence[int], average: WeightAverage | None, *, rescale: bool = True
) -> None:
    """Gives every quantizer at least `rung` bits; on the last rung each has its own.

    Args:
        model: the network that is trained, quantized to its own bits.
        rung: one of `ladder`.
        ladder: all of them.
        average: average of the weights; its quantizer parameters are fitted to the new bits too.
        rescale: as in `lift_bits`.
    Raises:
        InputError: a float network, or a ladder that ends with other bits than the network's.
    """
    check_ladder(model, ladder)
    before = {name: one.detach().clone() for name, one in quantizer_parameters(model).items()}
    lift_bits(model, 1 if rung == ladder[-1] else rung, rescale=rescale)
    if average is not None:
        after = quantizer_parameters(model)
        average.scale({name: after[name].detach() / one for name, one in before.items()})


def check_ladder(model: nn.Module, ladder: Sequence[int]) -> None:
    """Checks that a ladder leads to the network's own bits."""
    description = quantization(model)
    if description is None:
        raise InputError("`ladder` is for a quantized network, and this one is float: leave it out.")
    own = min(int(description["weight_bits"]), int(description["act_bits"]))
    if int(description["weight_bits"]) <= 8:
        own = int(description["weight_bits"])
    if ladder[-1] != own:
        raise InputError(f"`ladder` must end with the network's own bits, {own}, got {list(ladder)}.")
