"""The weights a member begins with."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rolewise.errors import InputError
from rolewise.seeds import derive_seed, torch_generator


def reinitialise(model: nn.Module, *key: int | str | None) -> None:
    """Draws all weights of `model` anew, in place, from the stream of `key`; every buffer is as at the start.

    A network with `reset(generator)` does it itself; otherwise each layer's `reset_parameters` is called,
    inner ones first, with torch's global generator seeded for that time alone.

    Args:
        model: on the CPU, so that the same key gives the same weights wherever it is trained.
        key: such as (seed, "init", role, member).

    Raises:
        InputError: a layer that has parameters and neither of the two methods.
    """
    reset = _own_reset(model)
    if reset is not None:
        reset(torch_generator(*key))
        return
    check_resettable(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*key))

        def renew(module: nn.Module) -> None:
            again = getattr(module, "reset_parameters", None)
            if callable(again):
                again()

        model.apply(renew)


def check_resettable(model: nn.Module) -> None:
    """Checks that all weights can be drawn anew.

    Raises:
        InputError: a layer that has parameters but neither `reset(generator)` nor `reset_parameters`; all are
        named.
    """
    if _own_reset(model) is not None:
        return
    faults = [
        f'"{name}" ({type(module).__name__})' if name else type(module).__name__
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
        and not callable(getattr(module, "reset_parameters", None))
    ]
    if faults:
        raise InputError(
            f"Members of a search begin with weights of their own, but {type(model).__name__} has no "
            f"`reset(generator)` and these layers no `reset_parameters`: {', '.join(faults)}. "
            'Write one of the two, or let all members begin with the given weights: init="given".'
        )


def _own_reset(model: nn.Module) -> Callable[[torch.Generator], Any] | None:
    reset = getattr(model, "reset", None)
    return reset if callable(reset) else None
