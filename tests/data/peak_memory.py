"""How much memory something takes."""

import tracemalloc
from collections.abc import Callable


def peak(function: Callable[[], object]) -> int:
    """Most bytes that Python objects and arrays took while `function` ran."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
