"""The engine on a Ray cluster: actors placed by resources. The one file that imports ray.

Decisions and states stay with the search, so a dead actor or node costs the interval it was in, and nothing
else.
"""

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch

from rolewise.errors import InputError, RunError, missing_extra
from rolewise.population.engine import Attempts, Engine, failure, raise_failure
from rolewise.population.member import Job, JobChannel
from rolewise.population.ray_cluster import connect
from rolewise.population.runner import HostRunner, SearchSpec
from rolewise.population.transport import pack, split_tensors, unpack
from rolewise.progress import Progress

_POLL_SECONDS = 0.1
_ROOM_SECONDS = 300.0  # how long to wait for a first actor: nodes may still be joining


def import_ray() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed, or does not work.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except (ImportError, RuntimeError, OSError) as error:
        raise missing_extra("The Ray engine", "Ray", "ray", error) from error
    return ray


class RayEngine(Engine):
    """Runs jobs in Ray actors, as many as the cluster has room for; members take turns where there are fewer.

    Images and networks are put into the object store once, states travel through it. Dead actors are replaced
    where there is room, their jobs are run again. Without an address Ray is started on this machine, on the
    loopback interface and without dashboard, and ended afterwards; a Ray that this process has started itself
    is used and left.

    Args:
        spec: specification that all members share.
        limit: maximum number of actors.
        address: address of a running cluster that this machine is part of, such as "auto" or "10.0.0.5:6379".
        gpus_per_worker: share of a GPU for each actor; 0 gives each one CPU instead.
        progress: listener for batches and for replaced actors.

    Raises:
        InputError: Ray is missing or not reachable, or no node has room for one actor.
    """

    def __init__(
        self,
        spec: SearchSpec,
        *,
        limit: int,
        address: str | None = None,
        gpus_per_worker: float = 0.0,
        progress: Progress | None = None,
    ) -> None:
        self._ray = import_ray()
        self._progress, self._limit = progress or Progress(), limit
        gpus = {"num_cpus": 0, "num_gpus": gpus_per_worker}
        self._needs = gpus if gpus_per_worker else {"num_cpus": 1}
        self._owns = not self._ray.is_initialized()
        self.restarts = 0
        self._actors: list[_Actor] = []
        if self._owns:
            connect(self._ray, address, limit)
        try:
            self.slots = self._room()
            if not self.slots:
                raise InputError(
                    f"No node of the Ray cluster has room for one member, which needs {self._need()}."
                )
            tensors = split_tensors(spec.train, spec.validation)
            blob = pack(spec, tensors, self._ray.cloudpickle.CloudPickler)
            arrays = [tensor.contiguous().numpy() for tensor in tensors]
            self._shared = [self._ray.put(item) for item in (blob, *arrays)]
        except BaseException:
            self._leave()
            raise
        self._class = self._ray.remote(**self._needs, max_restarts=0, max_concurrency=2)(_Remote)

    def run(self, jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[Any]:
        waiting, attempts, stopped = deque(jobs), Attempts(), False
        del jobs  # a job holds a state, which is not needed once the job is done
        alone_since = time.monotonic()
        while waiting or any(actor.job for actor in self._actors):
            if not stopped and should_stop():
                stopped = True
                waiting.clear()
                for actor in self._actors:
                    actor.stop()
            self._fill(len(waiting))
            for actor in self._actors:
                if waiting and actor.ready and actor.job is None:
                    actor.give(waiting.popleft())
            if any(actor.ready for actor in self._actors):
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > _ROOM_SECONDS:
                raise RunError(
                    f"The Ray cluster has had no room for a member ({self._need()}) for {_ROOM_SECONDS:.0f} s. What "
                    "was reached is saved in the run directory; resume it with `--resume`."
                )
            for actor in self._poll():
                kind, value = self._read(actor)
                if kind == "done":
                    self._progress.batch(getattr(value, "images", 0))
                    yield value
                elif kind == "raised":
                    raise_failure(*value)
                elif kind == "died" and (job := self._remove_dead(actor)) and not stopped:
                    attempts.lost(job, value)
                    self._progress.note(f"Ray actor died ({value}) while running {job}; retrying.")
                    waiting.appendleft(job)

    def _need(self) -> str:
        gpus = self._needs.get("num_gpus")
        return f"{gpus:g} GPUs" if gpus else "1 CPU"

    def _room(self) -> int:
        """Number of actors that the live nodes can hold, at most `limit`."""
        name = "GPU" if "num_gpus" in self._needs else "CPU"
        need = self._needs.get("num_gpus", 1)
        nodes = [node["Resources"].get(name, 0.0) for node in self._ray.nodes() if node["Alive"]]
        return min(self._limit, sum(int(has / need + 1e-9) for has in nodes))

    def _fill(self, waiting: int) -> None:
        """Starts actors as long as there are jobs and room for them."""
        idle = sum(actor.job is None for actor in self._actors)
        while idle < waiting and len(self._actors) < self._room():
            self._actors.append(_Actor(self._class.remote(*self._shared)))
            idle += 1

    def _poll(self) -> list["_Actor"]:
        pending = {actor.answer: actor for actor in self._actors if actor.answer is not None}
        if not pending:
            time.sleep(_POLL_SECONDS)
            return []
        done, _ = self._ray.wait(list(pending), num_returns=1, timeout=_POLL_SECONDS)
        return [pending[answer] for answer in done]

    def _read(self, actor: "_Actor") -> tuple[str, Any]:
        answer, actor.answer = actor.answer, None
        try:
            kind, value = unpack(self._ray.get(answer))
        except self._ray.exceptions.RayTaskError as error:
            raise RunError(f"A Ray actor failed: {error}") from error
        except self._ray.exceptions.RayError as error:
            return "died", type(error).__name__
        actor.ready = True
        actor.job = None
        return kind, value

    def _remove_dead(self, actor: "_Actor") -> Job | None:
        self._actors.remove(actor)
        self._kill(actor)
        self.restarts += 1
        return actor.job

    def _kill(self, actor: "_Actor") -> None:
        with suppress(Exception):  # it is dead, or its node is
            self._ray.kill(actor.handle)

    def _leave(self) -> None:
        if self._owns:
            self._ray.shutdown()

    def close(self, *, failed: bool) -> None:
        for actor in self._actors:
            self._kill(actor)
        self._actors.clear()
        self._shared.clear()
        self._leave()


class _Actor:
    """One actor, as the search sees it; `answer` is its pending result."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.given = 0
        self.ready = False
        self.job: Job | None = None
        self.answer: Any = handle.build.remote()

    def give(self, job: Job) -> None:
        self.job, self.given = job, self.given + 1
        self.answer = self.handle.execute.remote(pack(job), self.given)

    def stop(self) -> None:
        if self.job is not None:
            self.handle.stop.remote(self.given)


class _Remote(JobChannel):
    """The actor itself. `stop` runs in a second thread, parallel to `execute`."""

    def __init__(self, blob: bytes, *arrays: Any) -> None:
        self._blob, self._arrays = blob, arrays
        self._current, self._stopped = 0, 0

    def build(self) -> bytes:
        """Makes the trainer."""

        def make() -> tuple[str, Any]:
            with warnings.catch_warnings():
                # The object store's memory is read-only, and nothing writes into a split.
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                tensors = [torch.from_numpy(array) for array in self._arrays]
            self._runner = HostRunner(unpack(self._blob, tensors))
            return "ready", None

        return self._answer(make)

    def execute(self, data: bytes, number: int) -> bytes:
        """Does the job of this number."""
        self._current = number
        return self._answer(lambda: ("done", unpack(data).execute(self._runner, self)))

    def stop(self, number: int) -> None:
        """Breaks off the job of this number, which may not have begun yet."""
        self._stopped = number

    def should_stop(self) -> bool:
        return self._stopped >= self._current

    def report(self, images: int) -> None:
        """Images are counted from the results: Ray monitors its actors itself."""

    def _answer(self, call: Callable[[], tuple[str, Any]]) -> bytes:
        torch.set_num_threads(1)  # counts for the calling thread, and calls come in several
        try:
            return pack(call())
        except Exception as error:
            return pack(("raised", failure(error)))
