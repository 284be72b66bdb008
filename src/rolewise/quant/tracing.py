"""How quantizers appear to the tools that record graphs: `torch.compile`, `torch.export`, the ONNX writer.

An autograd function is opaque to compilers: in PyTorch 2.11 one with in-place operations loses its gradient
(pytorch #180642), and Inductor keeps fused chains in float32, so that a rounding by the spacing of bfloat16 does not
happen. While a graph is recorded the quantizers are therefore composed of plain operations with the same values and
the same gradients. The ONNX writer asks for the bare formula, since a file has no gradients.
`torch.compiler.is_exporting` cannot distinguish the two: in 2.11 it is true under `torch.compile` as well (#176347).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_bare = False


@contextmanager
def bare_graph() -> Iterator[None]:
    """Within the context, recorded graphs hold the bare formulas of the quantizers, without a gradient."""
    global _bare
    before, _bare = _bare, True
    try:
        yield
    finally:
        _bare = before


def composed() -> bool:
    """Whether a graph is recorded, so that quantizers are composed of plain operations."""
    return torch.compiler.is_compiling()


def bare() -> bool:
    """Whether a recorded graph holds values alone: within `bare_graph`."""
    return _bare


def straight_through(value: Tensor, x: Tensor, inside: Tensor | None = None) -> Tensor:
    """`value`, whose gradient reaches `x` unchanged, or only where `inside` is true.

    Args:
        value: the quantized `x`, without history.
        x: tensor of the shape of `value`; `x - x` is 0, so it must be finite where `inside` is true.
        inside: bool, of the shape of `x`; None is everywhere.
    """
    zero = x - x.detach()
    return value + (zero if inside is None else torch.where(inside, zero, 0))
