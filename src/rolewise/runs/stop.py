"""Signals that ask a run to stop: the first one sets a flag, the second one ends the process."""

import os
import signal
import threading
from types import FrameType, TracebackType

from rolewise.errors import Interrupted

RESUMABLE = 75  # the exit status (EX_TEMPFAIL) of a run that was interrupted and can be resumed
SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGUSR1,
)  # SIGUSR1: what batch systems send before the time is up


class StopFlag:
    """Within its `with` block, a signal only sets `requested`, which the work polls between batches.

    Nothing is saved within the handler: a checkpoint that is being written then would be cut off. A second
    signal ends the process at once with status 75, for whatever is on disk then can be resumed from.

    Handlers can be installed in the main thread only; elsewhere the block does nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    def __call__(self) -> bool:
        """The same as `requested`, for `should_stop=`."""
        return self.requested

    def raise_if_set(self) -> None:
        """Leave through an exception if a signal came.

        Raises:
            Interrupted: a signal came.
        """
        if self.signal is not None:
            raise Interrupted(f"stopped by {self.signal.name}")

    def __enter__(self) -> "StopFlag":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None: the handler before was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(RESUMABLE)
        self.signal = signal.Signals(number)
