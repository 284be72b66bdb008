"""Integer codes of k bits, packed without gaps: code i takes the bits i*k to i*k + k - 1, lowest bit first.

Bit j of the stream is bit j % 8 of byte j // 8. So a byte holds two 4-bit or four 2-bit codes, the first in its
lowest bits.
"""

import numpy as np
import numpy.typing as npt


def pack(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Packs codes below 2^bits, in C order; the last byte is filled with zeros."""
    flat = np.ascontiguousarray(codes).reshape(-1)
    if bits == 8:
        return flat.copy()
    each = np.unpackbits(flat[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(each.reshape(-1), bitorder="little")


def unpack(packed: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """The first `count` codes of what `pack` made."""
    if bits == 8:
        return packed[:count].copy()
    stream = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(stream, axis=1, bitorder="little").reshape(-1)


def packed_bytes(count: int, bits: int) -> int:
    """The number of bytes that `count` codes take."""
    return (count * bits + 7) // 8
