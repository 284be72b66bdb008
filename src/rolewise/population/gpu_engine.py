"""The engine for one GPU: one process, some members at once, each on a stream and a recorded step of its own.

Nothing between two checkpoints leaves the device but metrics. What lanes gain on a GPU: `docs/performance.md`. It
computes on any device, so that its logic is tested on a CPU, where it gives the bytes of the local engine.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch

from rolewise.population.bank import MemberBank, ResidentRunner
from rolewise.population.engine import Engine
from rolewise.population.member import Job, JobChannel, Task
from rolewise.population.runner import SearchSpec
from rolewise.progress import Progress
from rolewise.trainer import TrainSettings
from rolewise.trainer.feed import feeding_threads
from rolewise.trainer.generators import own_generators
from rolewise.trainer.recorded import Recorder

_POLL_SECONDS = 0.05  # time between two looks at `should_stop`


def obstacle(settings: TrainSettings) -> str | None:
    """Why members with these settings cannot be swapped as tensors alone; None if they can."""
    if settings.ladder:
        return "the bits of their networks change along a ladder"
    return "their level changes are counted" if settings.count_level_changes else None


class GpuEngine(Engine):
    """Runs jobs in lanes: threads of this process, each with a trainer, a recorded step and a stream.

    Args:
        spec: specification that all members share.
        lanes: number of members that are trained at once.
        progress: listener for batches, and for the reason where a step cannot be recorded.
        recorder: recorder of the steps; None takes the device's.
    """

    def __init__(
        self,
        spec: SearchSpec,
        lanes: int,
        progress: Progress | None = None,
        *,
        recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        self.slots, self.restarts = lanes, 0
        self._progress = progress or Progress()
        self._cleanup = ExitStack()
        device = torch.device(spec.settings.device)
        self._cleanup.enter_context(_deterministic(device))
        self._spec, self._device, self._bank = spec, device, MemberBank()
        self._lanes: list[_Lane] = []
        try:
            for _ in range(lanes):
                own = None if recorder is None else recorder()
                self._lanes.append(_Lane(spec, self._bank, device, lanes, own))
                if self._lanes[0].runner.draws and lanes > 1:
                    self.slots = 1
                    self._progress.note(
                        "Members are trained one after the other: their steps draw random numbers."
                    )
                    break
        except BaseException:
            self._cleanup.close()
            raise
        reasons = {lane.runner.eager_because for lane in self._lanes} - {None}
        for reason in sorted(map(str, reasons)):
            self._progress.note(f"Steps are not recorded, which is slower: {reason}.")

    def run(self, jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[Any]:
        self._draw_beginnings(jobs)
        waiting = deque(jobs)
        del jobs  # a job holds a state, which is not needed once the job is done
        channel, results = _LaneChannel(), queue.SimpleQueue[tuple[str, Any]]()
        threads = [
            threading.Thread(target=lane.work, args=(waiting, channel, results), name="rolewise-lane")
            for lane in self._lanes[: len(waiting)]
        ]
        working, error = len(threads), None
        generators = ExitStack()  # each lane keys torch's own by its step
        generators.enter_context(own_generators(self._device))
        for thread in threads:
            thread.start()
        try:
            while working:
                if not channel.stopped and should_stop():
                    channel.stop()
                try:
                    kind, value = results.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    kind, value = "", None
                if images := channel.take_images():
                    self._progress.batch(images)
                if kind == "done":
                    yield value
                    del value
                elif kind == "raised":
                    channel.stop()
                    error = error or value
                elif kind == "left":
                    working -= 1
        finally:
            channel.stop()
            for thread in threads:
                thread.join()
            generators.close()
        if error is not None:
            raise error

    def _draw_beginnings(self, jobs: Sequence[Job]) -> None:
        """Draws initial weights before the lanes work, because both use torch's global generator."""
        if self._spec.init == "random":
            for job in jobs:
                if isinstance(job, Task) and job.state is None:
                    self._bank.draw(self._spec, job.member)

    def close(self, *, failed: bool) -> None:
        self._lanes.clear()
        self._cleanup.close()


class _Lane:
    """One trainer with its stream."""

    def __init__(
        self,
        spec: SearchSpec,
        bank: MemberBank,
        device: torch.device,
        lanes: int,
        recorder: Recorder | None,
    ) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        with self._on_stream():
            threads = feeding_threads(device, lanes)
            self.runner = ResidentRunner(spec, bank, recorder=recorder, feed_threads=threads)
        self._wait()

    def work(
        self, waiting: deque[Job], channel: "_LaneChannel", results: "queue.SimpleQueue[tuple[str, Any]]"
    ) -> None:
        """Takes jobs as long as there are any."""
        torch.set_num_threads(1)  # counts for the calling thread
        try:
            with self._on_stream():
                while not channel.stopped:
                    try:
                        job = waiting.popleft()
                    except IndexError:
                        break
                    result = job.execute(self.runner, channel)
                    self._wait()  # so that every stream may read and overwrite what this one has used
                    results.put(("done", result))
                    del job, result  # each holds a state
        except BaseException as error:
            results.put(("raised", error))
        finally:
            results.put(("left", None))

    def _on_stream(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        if self._stream is not None:
            stack.enter_context(torch.cuda.device(self._device))
            stack.enter_context(torch.cuda.stream(self._stream))
        return stack

    def _wait(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()


class _LaneChannel(JobChannel):
    """What connects the jobs of all lanes with the search's own thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._images = 0

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def should_stop(self) -> bool:
        return self._stop.is_set()

    def report(self, images: int) -> None:
        with self._lock:
            self._images += images

    def take_images(self) -> int:
        """Images since the last call."""
        with self._lock:
            images, self._images = self._images, 0
        return images


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Convolutions whose result does not depend on which lane computes them."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    if device.type == "cuda":
        cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
