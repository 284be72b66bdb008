"""Reads a packed safetensors file with NumPy alone: the header by hand, the codes bit by bit."""

import json
from pathlib import Path

import numpy as np

TYPES = {"F32": np.float32, "U8": np.uint8, "I64": np.int64}


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = np.frombuffer(data[8 + length + begin : 8 + length + end], TYPES[entry["dtype"]])
        arrays[name] = raw.reshape(entry["shape"])
    return arrays, metadata


def unpack(packed: np.ndarray, bits: int, shape: list[int]) -> np.ndarray:
    """Code i takes the bits i*k ... i*k + k - 1 of the stream; bit j is bit j % 8 of byte j // 8."""
    count = int(np.prod(shape))
    positions = np.arange(count)[:, None] * bits + np.arange(bits)[None, :]
    each = (packed[positions // 8].astype(np.int64) >> (positions % 8)) & 1
    return (each << np.arange(bits)).sum(1).reshape(shape)


def weights(path: Path) -> dict[str, np.ndarray]:
    """The float32 weights of the packed layers: (code - zero_point) * scale - shift, rounded after each operation."""
    arrays, _ = read(path)
    stated = json.loads(path.with_suffix(".json").read_text())
    found = {}
    for name, entry in stated["packed"].items():
        codes = unpack(arrays[f"{name}.weight.codes"], entry["bits"], entry["shape"])
        centered = (codes - entry["zero_point"]).astype(np.float32)
        found[name] = centered * np.float32(entry["scale"]) - np.float32(entry["shift"])
    return found
