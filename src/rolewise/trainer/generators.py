"""Torch's own random generators while a training uses them: keyed by its steps, given back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generators(device: torch.device) -> list[torch.Generator]:
    """Torch's own generators that a step on `device` may draw from."""
    found = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.cuda.current_device() if device.index is None else device.index  # 0 is a number too
        found.append(torch.cuda.default_generators[index])
    return found


@contextmanager
def own_generators(device: torch.device) -> Iterator[None]:
    """Generators keyed within the context belong to the training; the caller's random numbers continue as before."""
    with torch.random.fork_rng(devices=[] if device.type != "cuda" else [device]):
        yield
