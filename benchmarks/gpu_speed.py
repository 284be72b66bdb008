"""How many images a second the device takes: step by step, members in turn, fed, evaluating."""

import functools
import time
from collections.abc import Callable
from typing import Any

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
import torch
from common import ratio, summary
from gpu_graph import GraphedStep
from gpu_parts import Figures, Size, batches, split, trainer, wait

from rolewise.augment import Schedule
from rolewise.trainer import Trainer


def _stepper(one: Trainer, mode: str, size: Size) -> Callable[[], None]:
    """Takes all steps of a timing."""
    every = batches(one, 4)
    step = GraphedStep(one, every[0]) if "graphed" in mode else one.train_step
    settle: Callable[[], None] = step.wait if isinstance(step, GraphedStep) else lambda: None

    def run() -> None:
        for index in range(size.steps):
            step(every[index % len(every)])
        settle()
        wait(size.device)

    return run


def _turns(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; the sides take turns."""
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
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


def throughput(size: Size, kind: str) -> Figures:
    """A step of `kind` on resident batches, in every mode, the modes in turn."""
    sides: dict[str, Callable[[], None]] = {}
    found: Figures = {}
    for mode in size.modes:
        if "graphed" in mode and not size.device.startswith("cuda"):
            found[mode] = {"left out": "no CUDA device"}
            continue
        try:
            sides[mode] = _stepper(trainer(size, kind, compile="compiled" in mode), mode, size)
            sides[mode]()
        except RuntimeError as error:
            sides.pop(mode, None)
            found[mode] = {"left out": str(error).splitlines()[0]}
    seconds = _turns(sides, size.rounds)
    for mode, measured in seconds.items():
        found[mode] = _rates(measured, size) | {"to eager": ratio(seconds["eager"], measured)}
    return found


def together(size: Size, kind: str, members: int) -> Figures:
    """Members of a population, all resident, a step of each in turn, against as many steps of one."""
    graphs = size.device.startswith("cuda")
    every = batches(trainer(size, kind), 4)
    trainers = [trainer(size, kind, seed=seed) for seed in range(members)]
    found: Figures = {"steps": "graphs" if graphs else "eager: no CUDA device"}
    for streams in size.streams if graphs else (1,):
        lanes = [torch.cuda.Stream() for _ in range(streams)] if graphs else []
        steps: list[Any] = [
            GraphedStep(one, every[0], stream=lanes[k % streams]) if graphs else one.train_step
            for k, one in enumerate(trainers)
        ]

        def run(order: list[Any]) -> None:
            for index in range(size.steps):
                for step in order:
                    step(every[index % len(every)])
            for step in order if graphs else []:
                step.wait()
            wait(size.device)

        seconds = _turns(
            {"one": functools.partial(run, steps[:1] * members), "all": functools.partial(run, steps)},
            size.rounds,
        )
        found[f"{streams} streams"] = _rates(seconds["all"], size, members) | {
            "to one at a time": ratio(seconds["one"], seconds["all"])
        }
        if graphs:
            found[f"{streams} streams"]["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        steps.clear()  # their memory, before the next are made
    return found


def feeding(size: Size) -> Figures:
    """Whole epochs, augmented under a full policy while the network computes, against resident batches."""
    one = trainer(size, "plain")
    policy = Schedule.random(1, seed=3)[0]
    every = batches(one, 4)

    def resident() -> None:
        for index in range(one.steps):
            one.train_step(every[index % len(every)])
        wait(size.device)

    def fed() -> None:
        one.epoch = 0
        one.train_epoch(policy)

    def augmented() -> None:
        for _ in one.feeder.batches(0, policy):
            pass
        wait(size.device)

    seconds = _turns({"resident": resident, "fed": fed, "augmentation alone": augmented}, size.rounds)
    images = one.steps * size.batch
    rates = {name: {"images/s": summary([images / s for s in each])} for name, each in seconds.items()}
    return rates | {"fed / resident": ratio(seconds["fed"], seconds["resident"])}


def evaluation(size: Size) -> Figures:
    """Images a second of an evaluation in 4 bits, all of it: normalisation, transport, network."""
    images, found = split(size), {}
    for batch in (1000, 4000):
        one = trainer(size, "4-bit", eval_batch=batch)
        seconds = _turns({"evaluate": functools.partial(one.evaluate, images)}, size.rounds)["evaluate"]
        found[f"batch {batch}"] = {"images/s": summary([len(images) / s for s in seconds])}
    return found
