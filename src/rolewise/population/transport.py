"""Transport of jobs and results between processes: states as safetensors, images once for all workers.

Pickle is used between a search and the workers that it started itself, as `multiprocessing` and Ray do;
no file is ever unpickled.
"""

import io
import mmap
import os
import pickle
import tempfile
from collections.abc import Sequence
from multiprocessing import reduction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rolewise.data import Split
from rolewise.own_code import reduce_own
from rolewise.trainer import State

_ALIGNED = 64


def pack(value: Any, shared: Sequence[Tensor] = (), pickler: type[pickle.Pickler] = pickle.Pickler) -> bytes:
    """`value` as bytes; of the tensors in `shared` only their positions are written.

    Args:
        value: job, result, or `SearchSpec`.
        shared: tensors that the receiver has already.
        pickler: base class of the pickler; Ray's can also send classes of the main script.
    """

    class Packer(pickler):  # type: ignore[valid-type,misc]
        def persistent_id(self, item: Any) -> int | None:
            return places.get(id(item)) if isinstance(item, Tensor) else None

        def reducer_override(self, item: Any) -> Any:
            if isinstance(item, State):
                return State.from_bytes, (item.to_bytes(),)
            if (own := reduce_own(item)) is not NotImplemented:
                return own
            inherited = getattr(super(), "reducer_override", None)
            return NotImplemented if inherited is None else inherited(item)

    places = {id(tensor): place for place, tensor in enumerate(shared)}
    file = io.BytesIO()
    Packer(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def unpack(data: bytes, shared: Sequence[Tensor] = ()) -> Any:
    """The value that `pack` was called with."""

    class Unpacker(pickle.Unpickler):
        def persistent_load(self, place: int) -> Tensor:
            return shared[place]

    return Unpacker(io.BytesIO(data)).load()


def split_tensors(*splits: Split) -> list[Tensor]:
    """The large tensors of splits, in a fixed order."""
    return [tensor for split in splits for tensor in split.tensors()]


class SharedTensors:
    """Tensors in memory that several processes map, without a name that could outlive them.

    Pickles only while a process of `multiprocessing` is being started; there it maps the same memory, copy on
    write.

    Args:
        tensors: tensors on the CPU; copied once.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._places: list[tuple[np.dtype[Any], tuple[int, ...], int]] = []
        self._size = 0
        arrays = [tensor.contiguous().numpy() for tensor in tensors]
        for array in arrays:
            self._places.append((array.dtype, array.shape, self._size))
            self._size += -(-max(1, array.nbytes) // _ALIGNED) * _ALIGNED
        self._file = _anonymous_file(self._size)
        for array, (_, _, offset) in zip(arrays, self._places, strict=True):
            _write(self._file, array.reshape(-1).view(np.uint8), offset)

    def __getstate__(self) -> dict[str, Any]:
        return {"file": reduction.DupFd(self._file), "places": self._places, "size": self._size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file, self._places, self._size = state["file"].detach(), state["places"], state["size"]

    def tensors(self) -> list[Tensor]:
        """The tensors, in shared memory."""
        memory = mmap.mmap(self._file, self._size, access=mmap.ACCESS_COPY)

        def view(dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> Tensor:
            count = int(np.prod(shape, dtype=np.int64))
            return torch.from_numpy(np.frombuffer(memory, dtype, count, offset).reshape(shape))

        return [view(*place) for place in self._places]

    def close(self) -> None:
        """Gives up this process's hold; what is mapped stays mapped."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _anonymous_file(size: int) -> int:
    """A file without a name: in memory on Linux (not in /dev/shm, which containers keep small), else on
    disk."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("rolewise-images", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as opened:
            file = os.dup(opened.fileno())
    os.truncate(file, size)
    return file


def _write(file: int, data: np.ndarray, offset: int) -> None:
    left = memoryview(data)  # type: ignore[arg-type]  # NumPy arrays are buffers
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written
