"""The local engine with several worker processes."""

import multiprocessing
import signal
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from rolewise.errors import InputError, RunError
from rolewise.population.engine import Attempts, Engine, failure, raise_failure
from rolewise.population.member import Job, JobChannel
from rolewise.population.runner import HostRunner, SearchSpec
from rolewise.population.transport import SharedTensors, pack, split_tensors, unpack
from rolewise.progress import Progress
from rolewise.runs.stop import SIGNALS

_PRELOADED = ["torch", "rolewise.population.processes"]
_POLL_SECONDS = 0.1  # time between two looks at `should_stop`
_HEARTBEAT_SECONDS = 0.5  # time between two heartbeats of a worker
_STARTS = 2  # number of workers that may die before they are ready
_STOP, _EXIT = b"stop", b"exit"


class ProcessEngine(Engine):
    """Runs jobs in worker processes of one thread each, forked from a small server that has loaded torch
    once.

    Workers leave signals to the search. A worker that dies is replaced and its job is run again; one without a
    heartbeat counts as dead.

    Args:
        spec: specification that all members share.
        slots: number of processes.
        progress: listener for batches and for replaced workers.
        patience: maximum time without a heartbeat, seconds.
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
            for worker in self._poll():
                kind, value = worker.read()
                if kind == "done":
                    yield value
                elif kind == "raised":
                    raise_failure(*value)
                elif kind == "images":
                    self._progress.batch(value)
                elif kind == "died" and (job := self._remove_dead(worker, value)) and not stopped:
                    attempts.lost(job, value)
                    self._progress.note(f"Worker died ({value}) while running {job}; retrying.")
                    waiting.appendleft(job)

    def _poll(self) -> list["_Worker"]:
        """The workers that have sent something. Those that were silent for too long are killed here."""
        pipes: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        heard = [pipes[pipe] for pipe in wait(list(pipes), _POLL_SECONDS)]
        for worker in self._workers:
            if worker.job is not None and time.monotonic() - worker.heard > self._patience:
                self._progress.note(f"Worker without a heartbeat for {self._patience:g} s; killed.")
                worker.kill()  # its pipe closes, and the next round finds it dead
        return heard

    def _remove_dead(self, worker: "_Worker", why: str) -> Job | None:
        """Drops a dead worker; returns the job that it was running."""
        self._workers.remove(worker)
        worker.kill()
        if worker.ready:
            self.restarts += 1
            return worker.job
        self._failed_starts += 1
        if self._failed_starts > _STARTS:
            raise RunError(
                f"Worker processes die before they are ready ({why}; what they wrote is above). If the search "
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
        there.close()  # so that the pipe closes with the worker
        return _Worker(process, here)

    def close(self, *, failed: bool) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.process.join(0.2 if failed else 2.0)
            worker.kill()
        self._workers.clear()
        self._shared.close()


class _Worker:
    """One process, as the search sees it."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.ready = False
        self.job: Job | None = None
        self.heard = time.monotonic()

    def give(self, job: Job) -> None:
        self.job, self.heard = job, time.monotonic()
        with suppress(OSError):  # if it is dead, its pipe says so next
            self.pipe.send_bytes(pack(job))

    def stop(self) -> None:
        if self.job is not None:
            with suppress(OSError):
                self.pipe.send_bytes(_STOP)

    def read(self) -> tuple[str, Any]:
        """Its message: "ready", "images", "done", "raised", or "died" where the pipe is closed."""
        try:
            kind, value = unpack(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.process.join(1.0)
            return "died", _cause(self.process.exitcode)
        self.heard = time.monotonic()
        self.ready = True if kind == "ready" else self.ready
        self.job = None if kind == "done" else self.job
        return kind, value

    def dismiss(self) -> None:
        with suppress(OSError):
            self.pipe.send_bytes(_EXIT)
        self.pipe.close()

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

    Raises:
        InputError: the worker needs a class that no file defines.
    """
    main = sys.modules["__main__"]
    if needed and getattr(main, "__file__", None) is None and getattr(main, "__spec__", None) is None:
        raise InputError(
            "The search needs a class or function of this notebook or interactive session, and worker processes cannot "
            "import it. Put it into a file of its own and import it from there, or search with workers=1."
        )
    if not needed:
        sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# In the worker.


class _PipeChannel(JobChannel):
    """A worker's end of the pipe: any message that arrives during a job, or its closing, means stop."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._images = 0
        self._sent = time.monotonic()

    def should_stop(self) -> bool:
        if time.monotonic() - self._sent > _HEARTBEAT_SECONDS:
            self.send("images", self._images)
            self._sent, self._images = time.monotonic(), 0
        return self._pipe.poll(0)

    def report(self, images: int) -> None:
        self._images += images

    def send(self, kind: str, value: Any = None) -> None:
        """Sends a message of the kinds that `_Worker.read` knows."""
        self._pipe.send_bytes(pack((kind, value)))

    def flush(self) -> None:
        """Sends the images that were counted since the last heartbeat."""
        if self._images:
            self.send("images", self._images)
            self._images = 0


def _work(pipe: Connection, blob: bytes, shared: SharedTensors) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the search handles them
    torch.set_num_threads(1)
    channel = _PipeChannel(pipe)
    lost = (EOFError, BrokenPipeError, ConnectionResetError)
    with suppress(*lost):  # the search has ended: nothing is left to do
        try:
            runner = HostRunner(unpack(blob, shared.tensors()))
            channel.send("ready")
            while (message := pipe.recv_bytes()) != _EXIT:
                if message != _STOP:  # which came when the job was just done
                    result = unpack(message).execute(runner, channel)
                    channel.flush()
                    channel.send("done", result)
        except lost:
            raise
        except Exception as error:
            channel.send("raised", failure(error))
