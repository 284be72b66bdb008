"""What the C library does with memory that a training step frees: it is kept for the next step."""

import ctypes
import os
import sys
from functools import cache

# <malloc.h> of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT = 2**31 - 1  # bytes, the largest number that it takes
LARGEST = 32 << 20  # bytes, likewise
_OWN_CHOICE = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Lets this process keep up to 2 GiB of the memory that it frees; without effect on any number.

    PyTorch's tensors on a CPU come from the C library, whose GNU form gives the memory of a step back to the system at
    its end. The next step has every page of it cleared again, which costs up to a fifth of a step.

    Returns:
        Whether the limits were set: not on other systems, nor where environment variables state the user's own.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _OWN_CHOICE):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT)) and bool(mallopt(_MMAP_THRESHOLD, LARGEST))
