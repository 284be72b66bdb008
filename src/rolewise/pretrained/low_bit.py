"""The form of quantized weights and activations in a file: one for any ONNX runtime, one that OpenVINO runs in int8.

OpenVINO's CPU plugin computes in 8-bit integers what is a chain of FakeQuantize (of 15, 16, 255 or 256 levels) and
int8 weights behind Convert and Multiply. Weights of 4-bit or 2-bit types it silently decodes to float32.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from rolewise.pretrained.packing import pack
from rolewise.quant import Grid

if TYPE_CHECKING:
    from rolewise.pretrained.onnx_graph import Graph

# What an exporter writes codes as: type name, bits of a packed element, opset from which DequantizeLinear takes it.
STORAGE = {"UINT2": (2, 25), "UINT4": (4, 21), "UINT8": (8, 21)}
OPENVINO_DOMAIN = "org.openvinotoolkit"


class LowBitForm(Protocol):
    """Writes quantized weights and activations into a graph."""

    def weight(self, graph: "Graph", codes: npt.NDArray[np.uint8], grid: Grid, name: str) -> str:
        """The value of a weight."""
        ...

    def activation(self, graph: "Graph", value: str, bits: int, step: float | None, place: str) -> str:
        """The levels of an activation; without a step those of DoReFa."""
        ...


@dataclass(frozen=True)
class OnnxForm:
    """Packed codes behind `DequantizeLinear`; activations as `Clip`, `Mul`, `Round`, `Div`.

    Args:
        storage: the narrowest type for codes, a key of `STORAGE`.
    """

    storage: str

    def weight(self, graph: "Graph", codes: npt.NDArray[np.uint8], grid: Grid, name: str) -> str:
        """DequantizeLinear, then Sub where the zero is no code."""
        order = list(STORAGE)
        widths = order[order.index(self.storage) :]
        kind = next(kind for kind in widths if STORAGE[kind][0] >= grid.bits)
        bits = STORAGE[kind][0]
        data_type = getattr(TensorProto, kind)
        stored = graph.raw(f"{name}.codes", data_type, list(codes.shape), pack(codes, bits).tobytes())
        inputs = [stored, graph.number(grid.scale)]
        if grid.zero_point:
            zero = pack(np.array([grid.zero_point], np.uint8), bits).tobytes()
            inputs.append(graph.raw(f"{name}.zero_point", data_type, [], zero))
        value = graph.add("DequantizeLinear", inputs, name)
        return value if grid.shift == 0 else graph.add("Sub", [value, graph.number(grid.shift)], name)

    def activation(self, graph: "Graph", value: str, bits: int, step: float | None, place: str) -> str:
        n = graph.number((1 << bits) - 1)
        if step is None:
            clipped = graph.add("Clip", [value, graph.number(0), graph.number(1)], place)
            return graph.add("Div", [_round(graph, graph.add("Mul", [clipped, n], place), place), n], place)
        distance = graph.number(step)
        clipped = graph.add("Clip", [graph.add("Div", [value, distance], place), graph.number(0), n], place)
        return graph.add("Mul", [_round(graph, clipped, place), distance], place)


def _round(graph: "Graph", value: str, place: str) -> str:
    made = graph.add("Round", [value], place)
    graph.rounds.add(made)
    return made


def signed_codes(codes: npt.NDArray[np.uint8], grid: Grid) -> tuple[npt.NDArray[np.int8], float] | None:
    """Integers i and a scale s with weight = i s, up to one rounding of float32; None where i does not fit int8.

    For a grid without shift i = code - zero_point. A DoReFa weight of n + 1 levels is (2 code - n) / n: i = 2 code - n.
    """
    table = integer_table(grid)
    return None if table is None else (table[0][codes], table[1])


def integer_table(grid: Grid) -> tuple[npt.NDArray[np.int8], float] | None:
    """The integer of each code, and the scale, as in `signed_codes`."""
    numbers = np.arange(1 << grid.bits) - grid.zero_point
    scale = grid.scale
    if grid.shift:
        half = round(2 * grid.shift / grid.scale)
        numbers, scale = 2 * numbers - half, grid.shift / half
    if numbers.min() < -128 or numbers.max() > 127:
        return None
    return numbers.astype(np.int8), scale


@dataclass(frozen=True)
class OpenVinoForm:
    """Weights that OpenVINO folds to int8 constants, activations as FakeQuantize.

    Up to 4 bits the codes lie packed in bytes; a table of 256 rows decodes a byte to its int8 weights when the file is
    compiled (OpenVINO folds `Gather` on constants and keeps the type), so that the file is small and runs in int8.
    """

    def weight(self, graph: "Graph", codes: npt.NDArray[np.uint8], grid: Grid, name: str) -> str:
        found = integer_table(grid)
        if found is None:  # runs in float
            numbers = ((codes.astype(np.float32) - grid.zero_point) * np.float32(grid.scale)).astype(
                np.float32
            )
            return graph.named(numbers - np.float32(grid.shift), name)
        table, scale = found
        width = next(width for width in (1, 2, 4, 8) if width >= grid.bits)
        if width < 8 and codes.size % (8 // width) == 0:
            integers = self._packed(graph, codes, table, width, name)
        else:
            integers = graph.named(table[codes], f"{name}.codes")
        floats = graph.add("Cast", [integers], name, to=TensorProto.FLOAT)
        return graph.add("Mul", [floats, graph.number(scale)], name)

    @staticmethod
    def _packed(
        graph: "Graph", codes: npt.NDArray[np.uint8], table: npt.NDArray[np.int8], width: int, name: str
    ) -> str:
        """Bytes of packed codes, looked up in the table of what each byte holds."""
        rows = np.arange(256)[:, None] >> np.arange(0, 8, width) & ((1 << width) - 1)
        decoded = table[np.minimum(rows, len(table) - 1)]
        stored = graph.named(pack(codes, width), f"{name}.codes")
        index = graph.add("Cast", [stored], f"{name}.bytes", to=TensorProto.INT32)
        integers = graph.add("Gather", [graph.constant(decoded, f"table.{width}"), index], name, axis=0)
        return graph.add("Reshape", [integers, graph.shape(codes.shape)], name)

    def activation(self, graph: "Graph", value: str, bits: int, step: float | None, place: str) -> str:
        """A quantizer of 16 or 256 levels as it is; others as 256 levels, of which a clamp before leaves 2^bits."""
        levels = 1 << bits
        n = levels - 1
        top = 1.0 if step is None else step * n
        high = top
        if levels not in (16, 256):
            value = graph.add("Clip", [value, graph.number(0), graph.number(top)], place)
            levels, high = 256, 255 / n if step is None else 255 * step
        bounds = [graph.number(0), graph.number(high)] * 2
        made = graph.add("FakeQuantize", [value, *bounds], place, domain=OPENVINO_DOMAIN, levels=levels)
        graph.rounds.add(made)
        return made
