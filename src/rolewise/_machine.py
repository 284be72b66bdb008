"""What of this machine the program may use, and how long things take on it."""

import os
import time
from pathlib import Path

_DAY = 86400


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Stopwatch:
    """Time since it was made: by the clock, and as it would have been without other programs.

    The latter is clock time less the longest time in which a thread of this process was ready to run but had no
    processor (Linux, `/proc/self/task/*/schedstat`), and not less than what the processors worked for this process, nor
    than what one worked for the calling thread. Where the system does not count this, it is clock time.

    Read it in the thread that made it.
    """

    def __init__(self) -> None:
        self._waited = _waited()
        self._processor, self._thread = time.process_time(), time.thread_time()
        self._begun = time.monotonic()

    @property
    def wall(self) -> float:
        """Clock time, seconds."""
        return time.monotonic() - self._begun

    @property
    def undisturbed(self) -> float:
        """Clock time without the share of other programs, seconds."""
        wall, worked = self.wall, time.process_time() - self._processor
        waited = max((at - self._waited.get(thread, 0.0) for thread, at in _waited().items()), default=0.0)
        alone = time.thread_time() - self._thread  # a thread that had nothing to do may have waited longer
        return min(wall, max(wall - waited, worked / cores(), alone))


def _waited() -> dict[str, float]:
    """Seconds in which each thread was ready but had no processor; empty where that is not counted."""
    found = {}
    try:
        for thread in Path("/proc/self/task").iterdir():
            try:
                found[thread.name] = int((thread / "schedstat").read_text("ascii").split()[1]) / 1e9
            except (OSError, ValueError, IndexError):  # a thread that has just ended
                continue
    except OSError:
        return {}
    return found


def in_words(seconds: float) -> str:
    """A length of time to two digits or so: `45 s`, `3.2 min`, `28.6 hours`, `4.5 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} hours" if seconds < 1.5 * _DAY else f"{seconds / _DAY:.1f} days"
