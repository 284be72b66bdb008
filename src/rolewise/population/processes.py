"""The local engine with several worker processes."""

import multiprocessing
import signal
import sys
import time
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from rolewise.errors import InputError, RunError
from rolewise.population.engine import Attempts, Job, raise_failure
from rolewise.population.member import Runner, SearchSpec
from rolewise.population.wire import SharedTensors, pack, split_tensors, unpack
from rolewise.progress import Progress

_PRELOADED = ["torch", "rolewise.population.processes"]
_POLL_SECONDS = 0.1  # how often the search looks whether it is to stop
_BEAT_SECONDS = 0.5  # between two signs of life of a worker
_STARTS = 2  # how many workers may die before they are ready
_STOP, _EXIT = b"stop", b"exit"


class ProcessEngine:
    """Runs jobs in worker processes of one thread each, forked from a small server that has loaded torch
    once.

    Workers leave signals to the search. A worker that dies is replaced and its job given again; one that
    gives no sign of life is taken for dead.

    Args:
        spec: what the members have in common.
        slots: number of processes.
        progress: is told of batches and of replaced workers.
        patience: seconds without a sign of life.
    """

    def __init__(
        self, spec: SearchSpec, slots: int, progress: Progress | None = None, *, patience: float = 900.0
    ) -> None:
        self.slots, self.restarts = slots, 0
        self._progress, self._patience = progress or Progress(), patience
        self._context = _context()
        shared = split_tensors(spec.train, spec.validation)
        self._blob = pack(spec, shared)
        self._shared = SharedTensors(shared)
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def run(self, jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[Any]:
        waiting, attempts, stopped = deque(jobs), Attempts(), False
        del jobs  # a job holds a state, which is not needed once the job is done
        while waiting or any(worker.job for worker in self._workers):
            if not stopped and should_stop():
                stopped = True
                waiting.clear()
                for worker in self._workers:
                    worker.stop()
            busy = sum(worker.job is not None for worker in self._workers)
            while len(self._workers) < min(self.slots, busy + len(waiting)):
                self._workers.append(self._start())
            for worker in self._workers:
                if waiting and worker.ready and worker.job is None:
                    worker.give(waiting.popleft())
            for worker in self._hear():
                kind, value = worker.read()
                if kind == "done":
                    yield value
                elif kind == "raised":
                    raise_failure(*value)
                elif kind == "beat":
                    self._progress.batch(value)
                elif kind == "died" and (job := self._bury(worker, value)) and not stopped:
                    attempts.lost(job, value)
                    self._progress.note(f"A worker died ({value}) at {job}; another one does it again.")
                    waiting.appendleft(job)

    def _hear(self) -> list["_Worker"]:
        """The workers that have said something. Those that were silent for too long are ended here."""
        lines: dict[Any, _Worker] = {worker.line: worker for worker in self._workers}
        heard = [lines[line] for line in wait(list(lines), _POLL_SECONDS)]
        for worker in self._workers:
            if worker.job is not None and time.monotonic() - worker.heard > self._patience:
                self._progress.note(
                    f"A worker gave no sign of life for {self._patience:g} s and is taken for dead."
                )
                worker.kill()  # its line ends, and the next round finds it dead
        return heard

    def _bury(self, worker: "_Worker", why: str) -> Job | None:
        """Forgets a dead worker; returns the job that it leaves."""
        self._workers.remove(worker)
        worker.kill()
        if worker.ready:
            self.restarts += 1
            return worker.job
        self._failed_starts += 1
        if self._failed_starts > _STARTS:
            raise RunError(
                f"Worker processes die before they begin ({why}; what they wrote is above). If the search "
                "is called from a script that defines its own network, put the call under "
                '`if __name__ == "__main__":`. With workers=1 no processes are needed.'
            )
        return None

    def _start(self) -> "_Worker":
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(there, self._blob, self._shared), name="rolewise-worker", daemon=True
        )
        with _main_module(needed=b"__main__" in self._blob):
            process.start()
        there.close()  # so that the line ends with the worker
        return _Worker(process, here)

    def __enter__(self) -> "ProcessEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.process.join(2.0 if exception[:1] in ((), (None,)) else 0.2)
            worker.kill()
        self._workers.clear()
        self._shared.close()


class _Worker:
    """One process, as the search sees it."""

    def __init__(self, process: BaseProcess, line: Connection) -> None:
        self.process, self.line = process, line
        self.ready = False
        self.job: Job | None = None
        self.heard = time.monotonic()

    def give(self, job: Job) -> None:
        self.job, self.heard = job, time.monotonic()
        with suppress(OSError):  # if it is dead, its line says so next
            self.line.send_bytes(pack(job))

    def stop(self) -> None:
        if self.job is not None:
            with suppress(OSError):
                self.line.send_bytes(_STOP)

    def read(self) -> tuple[str, Any]:
        """What it says: "ready", "beat", "done", "raised", or that it "died"."""
        try:
            kind, value = unpack(self.line.recv_bytes())
        except (EOFError, OSError):
            self.process.join(1.0)
            return "died", _cause(self.process.exitcode)
        self.heard = time.monotonic()
        self.ready = True if kind == "ready" else self.ready
        self.job = None if kind == "done" else self.job
        return kind, value

    def dismiss(self) -> None:
        with suppress(OSError):
            self.line.send_bytes(_EXIT)
        self.line.close()

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-exitcode).name}"
    return f"exit status {exitcode}"


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        raise InputError(
            'Worker processes need "forkserver", which this system lacks: use workers=1, or Ray.'
        )
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RunError(
            "This is a worker process that has just run its main script again. Put the call of the search "
            'under `if __name__ == "__main__":`.'
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


@contextmanager
def _main_module(*, needed: bool) -> Iterator[None]:
    """Hides the main script while a worker is started, unless the worker needs a class of it.

    Otherwise each worker would run the script again, so that none could call a search at its top level.
    """
    main = sys.modules["__main__"]
    if not needed:
        sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# In the worker.


class _Line:
    """A worker's contact: any message that arrives amid a job, or the end of the line, means stop."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._images = 0
        self._said = time.monotonic()

    def should_stop(self) -> bool:
        self._tell()
        return self._line.poll(0)

    def beat(self, images: int) -> None:
        self._images += images

    def say(self, kind: str, value: Any = None) -> None:
        self._line.send_bytes(pack((kind, value)))

    def flush(self) -> None:
        if self._images:
            self.say("beat", self._images)
            self._images = 0

    def _tell(self) -> None:
        if time.monotonic() - self._said > _BEAT_SECONDS:
            self.say("beat", self._images)
            self._said, self._images = time.monotonic(), 0


def _work(line: Connection, blob: bytes, shared: SharedTensors) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # they are the search's to handle
    torch.set_num_threads(1)
    contact = _Line(line)
    with suppress(
        EOFError, BrokenPipeError, ConnectionResetError
    ):  # the search is gone: nothing is left to do
        try:
            runner = Runner(unpack(blob, shared.tensors()))
            contact.say("ready")
            while (message := line.recv_bytes()) != _EXIT:
                if message != _STOP:  # which came when the job was just done
                    result = unpack(message).execute(runner, contact)
                    contact.flush()
                    contact.say("done", result)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            kind = "input" if isinstance(error, InputError) else "run"
            text = (
                str(error) if isinstance(error, InputError | RunError) else f"{type(error).__name__}: {error}"
            )
            contact.say("raised", (kind, text, traceback.format_exc()))
