"""Floors and what is measured against them: arithmetic of a step, feeding, evaluation. One thread.

    python benchmarks/floors.py

The floor of a step is its floating-point operations (counted by PyTorch) at the rate of this core's largest matrix
product, measured in the same run; the floor of feeding and of the optimizer is the bytes that they must move at the
rate of a copy. Feeding and evaluation are timed alongside the step that waits for them.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from common import alternate, ratio, record, summary
from step import BATCH, bare, network, split
from torch.utils.flop_counter import FlopCounterMode

import rolewise as rw
from rolewise.augment import Schedule
from rolewise.objective import CrossEntropy
from rolewise.trainer import Trainer, evaluate, teacher_settings

_SIDE = 2048  # of the matrix product; 3 of these fill no cache


def flops(name: str) -> float:
    """Floating-point operations of forward and backward of one batch."""
    model = network(name).train()
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.randn(BATCH, 3, 32, 32)).sum().backward()
    return float(counter.get_total_flops())


def product(dtype: torch.dtype) -> Callable[[], Any]:
    a, b = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
    return lambda: a @ b


def copy(megabytes: int = 256) -> Callable[[], Any]:
    source = torch.ones(megabytes * 2**20, dtype=torch.uint8)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def steps_against_floor(name: str, precision: str, rounds: int, repeat: int) -> dict[str, Any]:
    """The bare step's rate of arithmetic as a share of the matrix product's, measured alternately."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    step, peak, move = bare(name, precision), product(dtype), copy()
    seconds = alternate(
        {"step": lambda: [step() for _ in range(repeat)], "product": peak, "copy": move}, rounds=rounds
    )
    work = flops(name)
    parameters = sum(p.numel() for p in network(name).parameters())
    rates = [work * repeat / s for s in seconds["step"]]
    peaks = [2.0 * _SIDE**3 / s for s in seconds["product"]]
    bandwidth = [2 * 256 * 2**20 / s for s in seconds["copy"]]
    # SGD with momentum reads weight, gradient, momentum and writes weight, momentum: 20 bytes a parameter.
    optimizer = [20 * parameters / b for b in bandwidth]
    return {
        "GFLOP of a step": round(work / 1e9, 2),
        "GFLOP/s of the step": summary([r / 1e9 for r in rates]),
        "GFLOP/s of a matrix product": summary([p / 1e9 for p in peaks]),
        "share of the matrix product's rate": ratio(rates, peaks),
        "floor of a step, ms": summary([1000 * work / p for p in peaks]),
        "measured step, ms": summary([1000 * s / repeat for s in seconds["step"]]),
        "floor of the optimizer, ms (bytes)": summary([1000 * s for s in optimizer]),
    }


def feeding(name: str, precision: str) -> dict[str, Any]:
    """Images a second of the feeder alone; and the share of steps that found no batch ready."""
    images = split()
    trainer = Trainer(network(name), CrossEntropy(), images, teacher_settings(1, precision=precision), seed=0)
    policy = Schedule.random(1, seed=3)[0]
    rates = []
    for epoch in range(6):
        start = time.process_time()
        count = sum(len(batch.labels) for batch in trainer.feeder.batches(epoch, policy))
        rates.append(count / (time.process_time() - start))
    trainer.model.train()
    waits, walls = [], []
    batches = trainer.feeder.batches(0, policy)
    begin = time.perf_counter()
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        waits.append(time.perf_counter() - start)
        trainer.train_step(batch)
        walls.append(time.perf_counter() - start)
    steady = waits[2:]  # the first batches are made while nothing else runs
    return {
        "images per CPU second": summary(rates[1:]),
        "share of the time waited, steady state": round(sum(steady) / (time.perf_counter() - begin), 5),
        "steps that waited over 2 ms, steady state": sum(wait > 0.002 for wait in steady),
        "steps": len(steady),
    }


def evaluation(name: str, precision: str, rounds: int) -> dict[str, Any]:
    """4-bit evaluation with weights quantized once, against batches of 128 quantizing each time."""
    model = rw.quantize(network(name), 4, 4).eval()
    place = teacher_settings(1, precision=precision).placement()
    model = place.place(model)
    images = split(2000)

    def ours() -> None:
        evaluate(model, images, mean=images.mean, std=images.std, placement=place)

    def plain() -> None:
        pixels = (images.images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
        with torch.no_grad():
            for k in range(0, len(pixels), BATCH):
                batch = pixels[k : k + BATCH].to(memory_format=torch.channels_last)
                with place.autocast():
                    model(batch).argmax(1)

    seconds = alternate({"ours": ours, "plain": plain}, rounds=rounds)
    return {
        "images/s": summary([2000 / s for s in seconds["ours"]]),
        "plain / ours": ratio(seconds["plain"], seconds["ours"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    precision = teacher_settings(1).resolved().precision
    figures: dict[str, Any] = {"precision": precision, "batch": BATCH, "threads": 1}
    for name, repeat in (("resnet8-small", 10), ("resnet18", 1)):
        figures[name] = {
            "arithmetic": steps_against_floor(name, precision, options.rounds, repeat),
            "evaluation": evaluation(name, precision, 3),
        }
    figures["resnet8-small"]["feeding"] = feeding("resnet8-small", precision)
    record("floors", figures, note="Batch 128, one thread.")


if __name__ == "__main__":
    main()
