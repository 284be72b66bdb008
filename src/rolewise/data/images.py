"""Images that do not fit one tensor of their own: stored larger than networks see them, or in a mapped file."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from rolewise.errors import InputError


class MappedFile(NamedTuple):
    """A file of uint8 images, one after the other, that processes map instead of reading it.

    Fields:
        path: path of the file.
        shape: (images, height, width, channels), the file's whole content.
    """

    path: Path
    shape: tuple[int, int, int, int]

    def tensor(self) -> UInt8[Tensor, "n h w c"]:
        """The images, copy on write; pages are read as they are touched, and nothing reaches the file.

        Raises:
            InputError: the file is gone, or has another size.
        """
        n, h, w, c = self.shape
        size = n * h * w * c
        try:
            found = self.path.stat().st_size
            if found != size:
                raise InputError(
                    f"{self.path}: must have {size:,} bytes, has {found:,}. Delete it; it is made again."
                )
            flat = torch.from_file(str(self.path), shared=False, size=size, dtype=torch.uint8)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}.") from None
        return flat.view(self.shape)


class StoredImages:
    """Reads like a uint8 tensor `(n, h, w, c)`: `len`, `shape`, `images[3:8]`, `images[indices]`.

    What is read is the central part of `size` of the stored images; augmentation takes its own parts of `source`.

    Args:
        source: the stored images `(N, H, W, c)`, not smaller than `size`.
        size: (height, width) as networks see them.
        rows: indices of the images of `source`, in order; None is all.
        file: file that `source` is mapped from, so that other processes map it too; None if it is in memory.
    """

    dtype = torch.uint8
    device = torch.device("cpu")

    def __init__(
        self,
        source: UInt8[Tensor, "n h w c"],
        size: tuple[int, int],
        rows: Int64[Tensor, " m"] | None = None,
        file: MappedFile | None = None,
    ) -> None:
        if size[0] > source.shape[1] or size[1] > source.shape[2]:
            stored = f"{source.shape[1]} x {source.shape[2]}"
            raise InputError(f"`size` must be at most that of the stored images, {stored}, got {size}.")
        self.source, self.size, self.rows, self.file = source, (int(size[0]), int(size[1])), rows, file

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """(n, h, w, c) as networks see them."""
        return torch.Size((len(self), *self.size, self.source.shape[3]))

    def positions(self, indices: Int64[Tensor, " k"]) -> Int64[Tensor, " k"]:
        """Where these images are in `source`."""
        return indices if self.rows is None else self.rows[indices]

    def __getitem__(self, chosen: slice | Tensor) -> UInt8[Tensor, "k h w c"]:
        """The images at these positions, as networks see them without augmentation."""
        height, width = self.size
        top, left = (self.source.shape[1] - height) // 2, (self.source.shape[2] - width) // 2
        inner = self.source[:, top : top + height, left : left + width]
        if self.rows is None:
            return inner[chosen]
        return inner[self.rows[chosen]]

    def subset(self, indices: Int64[Tensor, " k"]) -> "StoredImages":
        """The images at these positions; nothing is copied."""
        return StoredImages(self.source, self.size, self.positions(indices), self.file)

    def tensors(self) -> list[Tensor]:
        """The tensors that processes may share; what is mapped from a file they map themselves."""
        return [t for t in (None if self.file else self.source, self.rows) if t is not None]

    def __reduce__(self) -> Any:
        if self.file is None:
            return StoredImages, (self.source, self.size, self.rows)
        return _mapped, (self.file, self.size, self.rows)

    def __repr__(self) -> str:
        where = f", mapped from {self.file.path}" if self.file else ""
        stored = " x ".join(str(side) for side in self.source.shape[1:3])
        return f"StoredImages(shape={tuple(self.shape)}, stored at {stored}{where})"


def _mapped(file: MappedFile, size: tuple[int, int], rows: Tensor | None) -> StoredImages:
    return StoredImages(file.tensor(), size, rows, file)
