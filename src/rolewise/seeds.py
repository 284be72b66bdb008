"""Where random numbers come from: every stream is keyed by what it is for, none depends on another.

A key is (seed, name of the stream, counters), so the same numbers come whatever the batch size, the number of
workers or the place where a run was interrupted, and a resumed run needs no saved generator.
"""

import hashlib

import numpy as np
import torch


def derive_seed(*parts: int | str | None) -> int:
    """A 63-bit seed from a key such as `(seed, "order", role, member, epoch)`."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(*parts: int | str | None) -> np.random.Generator:
    """A NumPy generator (Philox) for one key."""
    return np.random.Generator(np.random.Philox(derive_seed(*parts)))


def torch_generator(*parts: int | str | None) -> torch.Generator:
    """A CPU generator of torch for one key."""
    return torch.Generator().manual_seed(derive_seed(*parts))
