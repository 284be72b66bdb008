"""Images a second that the device takes: step by step, members in turn, fed, evaluating; what a step consists of."""

import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
import torch
from common import ratio, summary
from gpu_parts import Figures, Size, batches, full, members, recorded, smoke, split, trainer, wait

from rolewise.augment import Schedule
from rolewise.population.gpu_engine import GpuEngine
from rolewise.population.member import Task
from rolewise.progress import Progress
from rolewise.trainer.recorded import record

Sides = dict[str, Callable[[], None]]


@contextmanager
def _tried(wanted: bool) -> Iterator[None]:
    """cuDNN tries its algorithms at the first call of each shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _stepper(size: Size, kind: str, mode: str) -> Callable[[], None]:
    """Takes all steps of a timing."""
    with _tried("cuDNN tried" in mode):
        one = trainer(size, kind, compile="compiled" in mode)
        every = batches(one, 4)
        step = recorded(one, every[0]) if "graphed" in mode else one.train_step
        if "compiled" in mode:
            step(every[0])

    def run() -> None:
        for index in range(size.steps):
            step(every[index % len(every)])
        wait(size.device)

    return run


def _turns(sides: Sides, rounds: int, until: float = float("inf")) -> dict[str, list[float]]:
    """Seconds of each side in each round; the sides take turns. No round begins after `until`, but the first."""
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(rounds):
        if index and time.monotonic() > until:
            break
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _rates(seconds: list[float], size: Size, members: int = 1) -> Figures:
    images = members * size.steps * size.batch
    return {
        "ms a step": summary([1000 * s / (members * size.steps) for s in seconds]),
        "images/s": summary([images / s for s in seconds]),
    }


def throughput(size: Size, kind: str, until: float, modes: tuple[str, ...] = ()) -> Figures:
    """A step of `kind` on resident batches, in every mode, the modes in turn."""
    sides: Sides = {}
    found: Figures = {}
    for mode in modes or ("eager", "graphed", "graphed, cuDNN tried"):
        if "graphed" in mode and not size.device.startswith("cuda"):
            found[mode] = {"left out": "no CUDA device"}
            continue
        try:
            sides[mode] = _stepper(size, kind, mode)
            sides[mode]()
        except RuntimeError as error:
            sides.pop(mode, None)
            found[mode] = {"left out": str(error).splitlines()[0]}
    seconds = _turns(sides, size.rounds, until)
    for mode, measured in seconds.items():
        found[mode] = _rates(measured, size)
        if mode != "eager" and "eager" in seconds:
            found[mode]["to eager"] = ratio(seconds["eager"], measured)
    if size.device.startswith("cuda"):
        found["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def profile(size: Size, out: Path, kinds: tuple[str, ...]) -> Figures:
    """One eager step of each kind: its kernels by time, written to `out`/profile-<kind>.txt."""
    from torch.profiler import ProfilerActivity, supported_activities
    from torch.profiler import profile as watch

    on_gpu = ProfilerActivity.CUDA in supported_activities()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    found: Figures = {}
    for kind in kinds:
        one = trainer(size, kind)
        every = batches(one, 3)
        for batch in every:
            one.train_step(batch)
        wait(size.device)
        with watch(activities=activities) as seen:
            one.train_step(every[0])
            wait(size.device)
        averages = seen.key_averages()
        by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        times = {entry.key: (getattr(entry, by), entry.count) for entry in averages if getattr(entry, by)}
        kernels = {
            entry.key: entry for entry in averages if str(entry.device_type).endswith("CUDA") or not on_gpu
        }
        name = f"profile-{kind.replace(' + ', '-').replace(' ', '-')}.txt"
        (out / name).write_text(
            averages.table(sort_by=by, row_limit=80, max_name_column_width=100) + "\n", "utf-8"
        )
        most = sorted(times.items(), key=lambda item: -item[1][0])[:12]
        found[kind] = {
            "kernels": sum(entry.count for entry in kernels.values()),
            "ms of them": round(sum(getattr(entry, by) for entry in kernels.values()) / 1000, 3),
            "most": {key[:80]: {"ms": round(us / 1000, 3), "n": count} for key, (us, count) in most},
            "file": name,
        }
    return found


class _Notes(Progress):
    """Keeps why steps were not recorded."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def lanes(size: Size, kind: str, until: float) -> Figures:
    """An epoch of each member of a population, fed and swapped in and out, in lanes of the package's own engine."""
    notes = _Notes()
    tasks = [Task(member, None, tuple(Schedule.none(1)), evaluate=False) for member in range(size.members)]
    with ExitStack() as stack:
        engines = {
            count: stack.enter_context(GpuEngine(members(size, kind), count, notes)) for count in size.lanes
        }

        def run(engine: GpuEngine) -> None:
            for outcome in engine.run(tasks, lambda: False):
                assert outcome.finished

        sides: Sides = {f"{count} lanes": functools.partial(run, engine) for count, engine in engines.items()}
        seconds = _turns(sides, size.rounds, until)
    found: Figures = {"members": size.members, "stayed eager": sorted(set(notes.notes))}
    for name, each in seconds.items():
        found[name] = _rates(each, size, size.members)
        found[name]["to one lane"] = ratio(seconds[next(iter(seconds))], each)
    if size.device.startswith("cuda"):
        found["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def feeding(size: Size, until: float) -> Figures:
    """Whole epochs, augmented under a full policy while the network computes, against resident batches.

    Steps are recorded where they can be: eager ones are slower than any feeding.
    """
    one = trainer(size, "plain")
    policy = Schedule.random(1, seed=3)[0]
    every = batches(one, 4)
    images = one.steps * size.batch
    eager_because = record(one)
    take = one.train_step if one.recorded is None else one.recorded

    def resident() -> None:
        for index in range(one.steps):
            take(every[index % len(every)])
        wait(size.device)

    def fed() -> None:
        one.epoch = 0
        one.train_epoch(policy)

    def augmented(threads: int) -> None:
        one.feeder._augment.threads = threads
        for _ in one.feeder.batches(0, policy):
            pass
        wait(size.device)

    threads = one.feeder._augment.threads
    sides: Sides = {"resident": resident, "fed": fed}
    seconds = _turns(sides, size.rounds, until)
    found: Figures = {
        name: {"images/s": summary([images / s for s in each])} for name, each in seconds.items()
    }
    found |= {"fed / resident": ratio(seconds["fed"], seconds["resident"]), "threads of the package": threads}
    found["stayed eager"] = eager_because
    counts = {
        f"augmentation alone, {count} threads": functools.partial(augmented, count) for count in (1, 4, 8)
    }
    for name, each in _turns(counts, size.rounds, until).items():
        found[name] = {"images/s": summary([images / s for s in each])}
    return found


def evaluation(size: Size, until: float) -> Figures:
    """Images a second of an evaluation in 4 bits, all of it: normalization, transport, network."""
    images, found = split(size), {}
    for batch in (1000, 4000):
        one = trainer(size, "4-bit", eval_batch=batch)
        seconds = _turns({"evaluate": functools.partial(one.evaluate, images)}, size.rounds, until)[
            "evaluate"
        ]
        found[f"batch {batch}"] = {"images/s": summary([len(images) / s for s in seconds])}
    return found


def states(size: Size, until: float) -> Figures:
    """Milliseconds in which a member's state comes from the device, goes back, becomes bytes."""
    one = trainer(size, "4-bit")
    one.train_step(batches(one, 1)[0])
    state = one.state()
    sides: Sides = {
        "state out": lambda: one.state() and None,
        "state in": lambda: one.load_state(state),
        "to bytes": lambda: state.to_bytes() and None,
    }
    seconds = _turns(sides, size.rounds, until)
    megabytes = sum(tensor.nbytes for tensor in state.tensors.values()) / 1e6
    return {"MB": round(megabytes, 1), "tensors": len(state.tensors)} | {
        name: {"ms": summary([1000 * s for s in each])} for name, each in seconds.items()
    }


def processes(size: Size, kind: str, until: float, counts: tuple[int, ...] = (1, 3)) -> Figures:
    """Eager steps in several processes that share the device."""
    found: Figures = {}
    for count in counts:
        command = [
            sys.executable,
            __file__,
            size.device,
            kind,
            "smoke" if size.network == "cnn-tiny" else "full",
        ]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        try:
            lines = [_line(worker, until) for worker in workers]
            if any(line != "ready" for line in lines):
                found[f"{count} processes"] = {"left out": "a process was not ready in time"}
                continue
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("begin\n")
                worker.stdin.flush()
            rates = [float(line) for worker in workers if (line := _line(worker, until))]
            if len(rates) < count:
                found[f"{count} processes"] = {"left out": "a process did not end in time"}
                continue
            found[f"{count} processes"] = {"images/s, each": rates, "images/s": round(sum(rates))}
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
                for pipe in (worker.stdin, worker.stdout):
                    if pipe is not None:
                        pipe.close()
    return found


def _line(worker: "subprocess.Popen[str]", until: float) -> str:
    """The worker's next line; empty if there is none until then."""
    import select

    assert worker.stdout is not None
    ready, _, _ = select.select([worker.stdout], [], [], max(0.0, min(until - time.monotonic(), 500.0)))
    return worker.stdout.readline().strip() if ready else ""


def _worker(device: str, kind: str, form: str) -> None:
    """One of several processes: warms up, waits for the start signal, and returns the images a second of its steps."""
    size = smoke(device) if form == "smoke" else full(device)
    run = _stepper(replace(size, steps=2 * size.steps), kind, "eager")
    run()
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    run()
    print(2 * size.steps * size.batch / (time.perf_counter() - begun), flush=True)


if __name__ == "__main__":
    _worker(*sys.argv[1:])
