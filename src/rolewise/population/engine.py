"""Engines: who runs jobs, and how many at once. Results never depend on it."""

import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from rolewise._machine import cores
from rolewise.errors import InputError, RunError, check_integer
from rolewise.population.member import Job, JobChannel
from rolewise.population.runner import HostRunner, SearchSpec
from rolewise.progress import Progress
from rolewise.settings.search import SearchSettings
from rolewise.trainer import torch_threads

RETRIES = 2  # number of times that a job is given again after the death of its worker


class Engine(ABC):
    """Runs jobs. A context manager: leaving it ends the workers.

    Attributes:
        slots: number of jobs that run at once.
        restarts: number of workers that died and were replaced so far.
    """

    slots: int
    restarts: int

    @abstractmethod
    def run(self, jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[Any]:
        """The jobs' results, in the order in which they are complete.

        Once `should_stop` returns True, running jobs are broken off (their results come), and the others
        are left.

        Raises:
            RunError: a job failed, or its worker died again and again.
            InputError: a job failed because of what the user gave.
        """

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """Ends the workers; soon, if the search `failed`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close(failed=exception[:1] not in ((), (None,)))


class InlineEngine(Engine):
    """Runs jobs one after the other in this process, with one thread of torch."""

    slots = 1
    restarts = 0

    def __init__(self, spec: SearchSpec, progress: Progress) -> None:
        self._progress = progress
        with torch_threads(1):
            self._runner = HostRunner(spec)

    def run(self, jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[Any]:
        channel = DirectChannel(self._progress, should_stop)
        waiting = deque(jobs)
        del jobs  # a job holds a state, which is not needed once the job is done
        while waiting and not should_stop():
            with torch_threads(1):
                result = waiting.popleft().execute(self._runner, channel)
            yield result

    def close(self, *, failed: bool) -> None:
        del self._runner


class DirectChannel(JobChannel):
    """The channel of a job in the search's own process."""

    def __init__(self, progress: Progress, should_stop: Callable[[], bool]) -> None:
        self._progress, self._should_stop = progress, should_stop

    def should_stop(self) -> bool:
        return self._should_stop()

    def report(self, images: int) -> None:
        self._progress.batch(images)


class Attempts:
    """Counts how often each job's worker died."""

    def __init__(self) -> None:
        self._lost: dict[int, int] = {}

    def lost(self, job: Job, why: str) -> None:
        """The worker of `job` died.

        Raises:
            RunError: it did so too often.
        """
        count = self._lost[job.key] = self._lost.get(job.key, 0) + 1
        if count > RETRIES:
            raise RunError(
                f"The worker of {job} died {count} times ({why}). What was reached is saved in the run directory; "
                "resume it with `--resume`. If memory is short, use fewer `workers`."
            )


Failure = tuple[str, str, str]  # "input" or "run", message, traceback


def failure(error: Exception) -> Failure:
    """What a job raised, in a form that travels between processes."""
    kind = "input" if isinstance(error, InputError) else "run"
    known = isinstance(error, InputError | RunError)
    return kind, str(error) if known else f"{type(error).__name__}: {error}", traceback.format_exc()


def raise_failure(kind: str, text: str, trace: str) -> None:
    """Raises what a job raised in its worker; see `failure`."""
    error = InputError(text) if kind == "input" else RunError(text)
    error.add_note(f"In the worker:\n{trace}")
    raise error


def make_engine(
    spec: SearchSpec,
    settings: SearchSettings,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Engine:
    """The engine that the settings name, ready to run jobs for `spec`.

    Args:
        spec: specification that all members share.
        settings: numbers of the search, with the engine and its options.
        workers: maximum number of processes, and at most one for each member; None takes the number of cores
            (local, on a CPU), 1 (local, on a GPU), or what the cluster has room for (Ray).
        progress: listener for batches.

    Raises:
        InputError: Ray is missing or not reachable, or `workers` is no positive integer.
    """
    progress, members = progress or Progress(), settings.population
    on_gpu = spec.settings.device.startswith("cuda")
    workers = None if workers is None else min(check_integer("workers", workers, 1), members)
    if settings.engine == "ray":
        from rolewise.population.ray_engine import RayEngine

        return RayEngine(
            spec,
            limit=members if workers is None else workers,
            address=settings.ray_address,
            gpus_per_worker=settings.gpus_per_member,
            progress=progress,
        )
    if workers is None:
        # One process: a second one would hold a CUDA context of its own and compete for the same GPU.
        workers = 1 if on_gpu else min(cores(), members)
    if workers == 1 and on_gpu:
        from rolewise.population.gpu_engine import GpuEngine, obstacle

        if (reason := obstacle(spec.settings)) is None:
            return GpuEngine(spec, min(settings.lanes, members), progress)
        progress.note(f"Members do not stay on the GPU, which is slower: {reason}.")
    if workers == 1:
        return InlineEngine(spec, progress)
    from rolewise.population.processes import ProcessEngine

    return ProcessEngine(spec, workers, progress)
