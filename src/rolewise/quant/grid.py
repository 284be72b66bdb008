"""How the integer codes of quantized weights decode to numbers: what packed files and ONNX files store."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from rolewise.errors import InputError


@dataclass(frozen=True)
class Grid:
    """The weights of one layer are `(code - zero_point) * scale - shift`, in float32, each operation rounded.

    Args:
        bits: a code is 0 to 2^bits - 1.
        scale: the distance of two levels, exactly a float32.
        zero_point: the code of the value `-shift`.
        shift: taken off at the end, exactly a float32.
    """

    bits: int
    scale: float
    zero_point: int = 0
    shift: float = 0.0

    def decode(self, codes: Tensor) -> Tensor:
        """The float32 weights of integer codes of any shape."""
        return (codes.to(torch.float32) - self.zero_point).mul_(self.scale).sub_(self.shift)

    def encode(self, weight: Tensor) -> Tensor:
        """The uint8 codes of weights that lie on the grid, contiguous.

        Raises:
            InputError: a weight that is not one of the grid's levels, bit for bit.
        """
        single = weight.detach().float().contiguous()
        scale = self.scale if self.scale != 0 else 1.0
        exact = ((single.double() + self.shift) / scale).round().add_(self.zero_point)
        codes = exact.clamp_(0, 2**self.bits - 1).to(torch.uint8)
        off = self.decode(codes) != single
        if off.any():
            raise InputError(
                f"{int(off.sum())} of {off.numel()} weights lie on none of the {2**self.bits} levels "
                f"{float(self.decode(torch.zeros(()))):g} + i * {self.scale:g}, so they cannot be packed."
            )
        return codes

    def to_json(self) -> dict[str, Any]:
        """As JSON; the numbers come back exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Grid":
        """The inverse of `to_json`."""
        return cls(
            bits=int(value["bits"]),
            scale=float(value["scale"]),
            zero_point=int(value["zero_point"]),
            shift=float(value["shift"]),
        )
