"""Which quantizers forward passes reach: what is listed as low-bit may never be called."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class _Watch(threading.local):
    def __init__(self) -> None:
        self.seen: list[set[int]] = []


_watch = _Watch()


@contextmanager
def watching() -> Iterator[set[int]]:
    """Within the context, the set collects the ids of the modules of this thread that quantize something."""
    seen: set[int] = set()
    _watch.seen.append(seen)
    try:
        yield seen
    finally:
        _watch.seen.pop()


def note_use(module: nn.Module) -> None:
    """The module quantizes something now."""
    for seen in _watch.seen:
        seen.add(id(module))
