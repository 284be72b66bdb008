"""Engines: who runs jobs, and how many at once. Results never depend on it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

from rolewise._machine import cores
from rolewise.errors import InputError, RunError, check_integer, unknown
from rolewise.population.member import Contact, Runner, SearchSpec
from rolewise.progress import Progress
from rolewise.trainer import torch_threads

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")
RETRIES = 2  # how often a job is given again after the death of its worker


class Job(Protocol):
    """Work that is complete in itself: run twice, it gives the same."""

    @property
    def key(self) -> int:
        """Its number among the jobs of one call."""

    def execute(self, runner: Runner, contact: Contact) -> Any:
        """Does it."""


class Engine(Protocol):
    """Runs jobs. A context manager: leaving it ends the workers.

    Attributes:
        slots: how many jobs run at once.
        restarts: how many workers died and were replaced so far.
    """

    slots: int
    restarts: int

    def run(self, jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[Any]:
        """The jobs' results, in the order in which they are complete.

        Once `should_stop` says so, jobs that are running are broken off (their results come), and the others
        are left.

        Raises:
            RunError: a job failed, or its worker died again and again.
            InputError: what the user gave made a job fail.
        """

    def __enter__(self) -> "Engine": ...
    def __exit__(self, *exception: object) -> None: ...


class InlineEngine:
    """Runs jobs one after the other in this process, with one thread of torch."""

    slots = 1
    restarts = 0

    def __init__(self, spec: SearchSpec, progress: Progress) -> None:
        self._progress = progress
        with torch_threads(1):
            self._runner = Runner(spec)

    def run(self, jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[Any]:
        contact = _Direct(self._progress, should_stop)
        waiting = deque(jobs)
        del jobs  # a job holds a state, which is not needed once the job is done
        while waiting and not should_stop():
            with torch_threads(1):
                result = waiting.popleft().execute(self._runner, contact)
            yield result

    def __enter__(self) -> "InlineEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        del self._runner


class _Direct:
    def __init__(self, progress: Progress, should_stop: Callable[[], bool]) -> None:
        self.should_stop, self.beat = should_stop, progress.batch


class Attempts:
    """How often each job was given, and when that is too often."""

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
                f"The worker of {job} died {count} times ({why}). What was reached is saved in the run "
                "directory, and `--resume` goes on from there. If memory is short, use fewer `workers`."
            )


def raise_failure(kind: str, text: str, trace: str) -> None:
    """Raises what a job raised in its worker."""
    error = InputError(text) if kind == "input" else RunError(text)
    error.add_note(f"In the worker:\n{trace}")
    raise error


def make_engine(
    name: str,
    spec: SearchSpec,
    *,
    workers: int | None,
    members: int,
    ray_address: str | None = None,
    gpus_per_member: float = 0.0,
    progress: Progress | None = None,
) -> Engine:
    """The engine `name`, ready to run jobs for `spec`.

    Args:
        name: "local" or "ray".
        spec: what the members have in common.
        workers: processes at most; None takes the number of cores (local, on a CPU), 1 (local, on a GPU), or
            what the cluster has room for (Ray).
        members: more workers than that are not started.
        ray_address: of a running cluster; None starts one on this machine.
        gpus_per_member: share of a GPU for each worker (Ray).
        progress: is told of batches.

    Raises:
        InputError: an unknown name, options of the other engine, Ray missing or not reachable.
    """
    if name not in ENGINES:
        raise InputError(unknown("engine", name, ENGINES))
    progress = progress or Progress()
    workers = None if workers is None else min(check_integer("workers", workers, 1), members)
    if name == "ray":
        from rolewise.population.ray_engine import RayEngine

        limit = members if workers is None else workers
        return RayEngine(
            spec, limit=limit, address=ray_address, gpus_per_worker=gpus_per_member, progress=progress
        )
    if ray_address is not None or gpus_per_member:
        option = "ray_address" if ray_address is not None else "gpus_per_member"
        raise InputError(f'`{option}` belongs to the Ray engine: say engine="ray" as well.')
    if workers is None:
        workers = 1 if spec.settings.device.startswith("cuda") else min(cores(), members)
    if workers == 1:
        return InlineEngine(spec, progress)
    from rolewise.population.processes import ProcessEngine

    return ProcessEngine(spec, workers, progress)
