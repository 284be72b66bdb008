"""How the kernels are compiled, and what happens where machine code cannot be kept."""

import logging
from collections.abc import Callable
from typing import Any

import numba

_STATE = {"warned": False}


def compiled(function: Callable[..., Any]) -> Any:
    """Compiles at the first call, and keeps the machine code on disk where a folder for it can be written."""
    try:
        return numba.njit(nogil=True, cache=True, fastmath=False)(function)
    except (
        RuntimeError
    ) as error:  # "no locator available": neither the package's folder nor the user's is writable
        warn_once(error)
        return numba.njit(nogil=True, fastmath=False)(function)


def warn_once(reason: BaseException) -> None:
    """One line per process about machine code that is not kept."""
    if not _STATE["warned"]:
        logging.getLogger("rolewise").warning("Augmentation is recompiled in this process: %s", reason)
        _STATE["warned"] = True
