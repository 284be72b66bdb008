"""Cost of a search beyond the training of its members, and its time against the estimate.

    python benchmarks/search.py --data cifar10 --data-root ~/data          # real images
    python benchmarks/search.py --members 4 --epochs 2                     # handwritten digits, quicker

Measured in one run: controller and cloning as a share of a search; time against members, epochs and images;
two worker processes against two processes that know nothing of each other, alternately; the estimate against
the clock; memory against the number of members; and whether one worker, two workers and Ray write the same
bytes.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import ratio, record, summary

import rolewise as rw
from rolewise import networks
from rolewise.data import Data
from rolewise.population import Plan, SearchResult, boundaries, estimate, make_plan
from rolewise.population.engine import InlineEngine, make_engine
from rolewise.population.member import Task
from rolewise.progress import Progress
from rolewise.settings import SearchSettings

NUMBERS: dict[str, Any] = {"batch_size": 128, "lr": 0.05}


class Settings:
    """What the command line said."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.data: Data = rw.load_data(arguments.data, root=arguments.data_root)
        self.model = networks.build(arguments.network, num_classes=len(self.data.classes))
        self.members, self.epochs, self.rounds = arguments.members, arguments.epochs, arguments.rounds
        self.images, self.validation = arguments.images, arguments.validation
        self.ray = not arguments.no_ray

    def plan(self, **changes: Any) -> Plan:
        """A search of this size, or of another one."""
        options = {
            "population": self.members,
            "epochs": self.epochs,
            "interval": min(3, self.epochs),
            **changes,
        }
        images = options.pop("images", self.images)
        return make_plan(
            self.model,
            self.data,
            SearchSettings(**options),
            changes=NUMBERS,
            images=(images, self.validation),
        )


def timed(plan: Plan, workers: int = 1) -> tuple[float, SearchResult]:
    """Seconds of a search once its workers are ready, and its result."""
    with make_engine(plan.spec, plan.settings, workers=workers) as engine:
        idle = Task(0, None, (), evaluate=False)
        list(engine.run([idle] * workers, lambda: False))  # workers are there, kernels are compiled
        begun = time.perf_counter()
        result = plan.run(engine)
        return time.perf_counter() - begun, result


def overhead(settings: Settings) -> dict[str, Any]:
    """Decisions, and states taken and given back, as shares of a search."""
    found: dict[str, list[float]] = {"controller": [], "cloning": [], "all_but_members": []}
    for _ in range(settings.rounds):
        seconds, result = timed(settings.plan())
        cost = result.cost
        found["controller"].append(cost.controller_seconds / seconds)
        found["cloning"].append(cost.exchange_seconds / seconds)
        found["all_but_members"].append((seconds - cost.worker_seconds + cost.exchange_seconds) / seconds)
    return {f"{name}_share": summary(values) for name, values in found.items()}


def linearity(settings: Settings) -> dict[str, Any]:
    """T(2n) / T(n); both sizes take turns."""
    doubles = {
        "members": {"population": 2 * settings.members},
        "epochs": {"epochs": 2 * settings.epochs},
        "images": {"images": 2 * settings.images},
    }
    times: dict[str, list[float]] = {name: [] for name in ("once", *doubles)}
    for _ in range(settings.rounds):
        times["once"].append(timed(settings.plan())[0])
        for name, changes in doubles.items():
            times[name].append(timed(settings.plan(**changes))[0])
    return {f"twice_the_{name}": ratio(times[name], times["once"]) for name in doubles}


def _alone(plan: Plan, members: list[int], barrier: Any, seconds: Any) -> None:
    """One of two processes that know nothing of each other: its members, one after the other."""
    torch.set_num_threads(1)
    engine = InlineEngine(plan.spec, Progress())
    list(engine.run([Task(0, None, (), evaluate=False)], lambda: False))
    tasks = []
    for member in members:
        start = 0
        for boundary in plan.strategy.boundaries:
            tasks.append((member, start, boundary))
            start = boundary
    barrier.wait()
    begun = time.perf_counter()
    states: dict[int, Any] = {}
    for member, start, boundary in tasks:
        policies = tuple(plan.beginnings[member][epoch] for epoch in range(start, boundary))
        task = Task(member, states.get(member), policies, evaluate=True)
        for outcome in engine.run([task], lambda: False):
            states[member] = outcome.state
    with seconds.get_lock():
        seconds.value = max(seconds.value, time.perf_counter() - begun)


def two_alone(plan: Plan) -> float:
    """Seconds until the slower of two independent processes has trained its half of the members."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(2), context.Value("d", 0.0)
    members = list(range(plan.settings.population))
    processes = [
        context.Process(target=_alone, args=(plan, members[half::2], barrier, seconds)) for half in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return float(seconds.value)


def two_workers(settings: Settings) -> dict[str, Any]:
    """The speed of two workers in parts of that of two independent processes, and of one worker."""
    plan = settings.plan()
    alone, together, one = [], [], []
    for _ in range(settings.rounds):
        alone.append(two_alone(plan))
        together.append(timed(plan, workers=2)[0])
        one.append(timed(plan, workers=1)[0])
    return {
        "speed_of_two_workers_to_two_independent_processes": ratio(alone, together),
        "speed_of_two_workers_to_one": ratio(one, together),
    }


def expected_title(settings: Settings) -> dict[str, Any]:
    """The clock to the estimate, workers' start included in both."""
    numbers = {"population": settings.members, "epochs": settings.epochs, "interval": min(3, settings.epochs)}
    images = {"train_images": settings.images, "validation_images": settings.validation}
    found: dict[str, list[float]] = {}
    for workers in (1, 2):
        for _ in range(settings.rounds):
            expected = estimate(
                settings.model, settings.data, workers=workers, **numbers, **images, **NUMBERS
            )
            begun = time.perf_counter()
            rw.search(settings.model, settings.data, workers=workers, **numbers, **images, **NUMBERS)
            took = time.perf_counter() - begun
            found.setdefault(f"clock_to_estimate_{workers}_workers", []).append(took / expected.seconds)
    return {name: summary(values) for name, values in found.items()}


def _peak(plan: Plan, megabytes: Any) -> None:
    timed(plan)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    megabytes.value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def memory(settings: Settings) -> dict[str, Any]:
    """Peak memory of a search with few and with many members, and what their states alone come to."""
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for members in (4, 32):
        megabytes = context.Value("d", 0.0)
        plan = settings.plan(population=members, epochs=2, interval=1)
        process = context.Process(target=_peak, args=(plan, megabytes))
        process.start()
        process.join()
        peaks[members] = float(megabytes.value)
    numbers = {"population": 4, "epochs": 1, "interval": 1, "train_images": settings.images}
    expected = estimate(
        settings.model, settings.data, workers=1, validation_images=settings.validation, **numbers, **NUMBERS
    )
    return {
        "peak_mb_4_members": round(peaks[4], 1),
        "peak_mb_32_members": round(peaks[32], 1),
        "states_of_28_members_mb": round(28 * expected.state_bytes / 2**20, 1),
    }


def same_bytes(settings: Settings) -> dict[str, Any]:
    """Schedules and lineages of one worker, two workers, and Ray."""
    numbers = {"population": settings.members, "epochs": settings.epochs, "interval": min(3, settings.epochs)}
    images = {"train_images": settings.images, "validation_images": settings.validation}
    engines: dict[str, dict[str, Any]] = {"one": {"workers": 1}, "two": {"workers": 2}}
    if settings.ray:
        engines["ray"] = {"engine": "ray", "workers": 2}
    written = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in engines.items():
            out = Path(folder) / name
            rw.search(settings.model, settings.data, out=out, **numbers, **images, **NUMBERS, **engine)
            files = [out / "A_T.json", out / "lineage.jsonl", out / "metrics.jsonl"]
            written[name] = [file.read_bytes() if file.exists() else b"" for file in files]
    return {f"{name}_equals_one_worker": bytes_ == written["one"] for name, bytes_ in written.items()}


def main() -> None:
    """Measures, prints and records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--network", default="resnet8-small")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--validation", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--only", choices=["overhead", "linearity", "workers", "estimate", "memory", "bytes"])
    arguments = parser.parse_args()
    settings = Settings(arguments)
    parts = {
        "overhead": overhead,
        "linearity": linearity,
        "workers": two_workers,
        "estimate": expected_title,
        "memory": memory,
        "bytes": same_bytes,
    }
    figures: dict[str, Any] = {
        "evaluations_of_a_member_over_200_epochs": len(boundaries(200, 3)),
        "size": {
            name: vars(arguments)[name]
            for name in ("data", "network", "members", "epochs", "images", "validation")
        },
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            figures |= part(settings)
            print(f"{name}: done", file=sys.stderr)
    if arguments.only is None:
        record("search", figures)
    else:
        print(figures)


if __name__ == "__main__":
    main()
