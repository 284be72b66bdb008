"""A training step taken apart, against bare PyTorch, in one run: loop, augmentation, quantization, teacher, KD terms.

    python benchmarks/step.py                  # ResNet18 and narrow ResNet8, one thread; then two threads
    python benchmarks/step.py --rounds 2       # quicker, coarser
    python benchmarks/step.py --only ii-kd     # one loss on one thread, printed and not recorded

The bare step is forward, cross-entropy, backward and fused SGD on one resident batch, in the same precision and memory
format. All sides alternate; CPU time counts every thread of the process, so augmentation in the background is paid for.
"""

import argparse
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from common import alternate, ratio, record, summary
from torch.nn import functional as F

import rolewise as rw
from rolewise import kd, networks
from rolewise.augment import Schedule
from rolewise.data import Split
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.trainer import Batch, Trainer, student_settings, teacher_settings

BATCH = 128


def split(images: int = 50 * BATCH) -> Split:
    """Random images: what a step costs does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    return Split(
        images=torch.randint(0, 256, (images, 32, 32, 3), generator=generator, dtype=torch.uint8),
        labels=torch.randint(0, 100, (images,), generator=generator),
        ids=torch.arange(images),
        classes=tuple(map(str, range(100))),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def network(name: str) -> Any:
    model = networks.build(name, num_classes=100)
    model.reset(torch.Generator().manual_seed(0))
    return model


def bare(name: str, precision: str) -> Callable[[], None]:
    """Forward, backward, update; nothing else."""
    settings = teacher_settings(1, precision=precision)
    place = settings.placement()
    model = place.place(network(name)).train()
    optimizer = torch.optim.SGD(
        model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    images = torch.randn(BATCH, 3, 32, 32).to(place.dtype)
    if place.channels_last:
        images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 100, (BATCH,))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with place.autocast():
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def trained(
    name: str, precision: str, *, bits: int, objective: Objective, augment: bool = True
) -> Callable[[], None]:
    """One step of a `Trainer`, its batches augmented under a policy that applies two operations to most images."""
    model = network(name)
    if bits < 32:
        rw.quantize(model, bits, bits)
    make = teacher_settings if bits == 32 else student_settings
    images = split()
    if isinstance(objective, Distill) and not objective.loss.prepared:
        objective.loss.prepare(objective.teacher, images.subset(torch.arange(2 * BATCH)), epochs=1, seed=0)
    trainer = Trainer(model, objective, images, make(1, precision=precision), seed=0)
    trainer.model.train()
    objective.set_epoch(0, 0)
    policy = Schedule.random(1, seed=3)[0] if augment else None

    def endless() -> Iterator[Batch]:
        for epoch in itertools.count():
            yield from trainer.feeder.batches(epoch, policy)

    batches = endless()
    return lambda: trainer.train_step(next(batches))


def sides(name: str, precision: str, only: str | None = None) -> dict[str, Callable[[], None]]:
    """The step with one thing after the other added."""
    made: dict[str, Callable[[], None]] = {"bare": bare(name, precision)}
    made["trainer"] = trained(name, precision, bits=32, objective=CrossEntropy())
    made["+ 4-bit"] = trained(name, precision, bits=4, objective=CrossEntropy())
    for loss in ("soft", "rkd", "kd-svd", "mhgd", "ii-kd"):
        if only is None or loss == only:
            objective = Distill(network(name).eval(), kd.LOSSES[loss]())
            made[f"+ 4-bit + {loss}"] = trained(name, precision, bits=4, objective=objective)
    return made


def apart(name: str, rounds: int, steps: int, precision: str, only: str | None = None) -> dict[str, Any]:
    """Each side's time per step, and its ratio to the bare step."""
    torch.set_num_threads(1)
    made = sides(name, precision, only)
    many = {label: (lambda step=step: [step() for _ in range(steps)]) for label, step in made.items()}
    wall: dict[str, list[float]] = {label: [] for label in many}

    def timed(label: str, run: Callable[[], Any]) -> Callable[[], None]:
        def both() -> None:
            start = time.perf_counter()
            run()
            wall[label].append(time.perf_counter() - start)

        return both

    cpu = alternate(
        {label: timed(label, run) for label, run in many.items()}, rounds=rounds, clock=time.process_time
    )
    return {
        label: {
            "ms": summary([1000 * s / steps for s in cpu[label]]),
            "wall ms": summary([1000 * s / steps for s in wall[label][1:]]),
            "to bare": ratio(cpu[label], cpu["bare"]),
        }
        for label in many
    }


def _alone(name: str, precision: str, seconds: float, results: Any, start: Any) -> None:
    torch.set_num_threads(1)
    step = trained(name, precision, bits=32, objective=CrossEntropy())
    step()
    start.wait()
    results.put(_rate(step, seconds))


def _rate(step: Callable[[], None], seconds: float) -> float:
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - begin)


def threads(name: str, precision: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Steps a second of one process with two threads, against two processes with one thread each at the same time."""
    context = multiprocessing.get_context("spawn")
    torch.set_num_threads(2)
    step = trained(name, precision, bits=32, objective=CrossEntropy())
    step()
    two_threads, two_processes = [], []
    for _ in range(rounds):
        two_threads.append(_rate(step, seconds))
        results, start = context.Queue(), context.Barrier(2)
        pair = [
            context.Process(target=_alone, args=(name, precision, seconds, results, start)) for _ in range(2)
        ]
        for process in pair:
            process.start()
        two_processes.append(sum(results.get() for _ in pair))
        for process in pair:
            process.join()
    return {
        "steps/s with two threads": summary(two_threads),
        "steps/s of two processes": summary(two_processes),
        "share": ratio(two_threads, two_processes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--skip-threads", action="store_true")
    parser.add_argument("--only", choices=("soft", "rkd", "kd-svd", "mhgd", "ii-kd"))
    options = parser.parse_args()
    precision = teacher_settings(1, precision=options.precision).resolved().precision
    if options.only is not None:
        for name, steps in (("resnet8-small", 10), ("resnet18", 1)):
            for side, found in apart(name, options.rounds, steps, precision, options.only).items():
                print(f"{name} {side}: {found['to bare']} to bare, ms {found['ms']}", flush=True)
        return
    figures: dict[str, Any] = {"precision": precision, "batch": BATCH, "threads": 1}
    figures["resnet8-small"] = apart("resnet8-small", options.rounds, 10, precision)
    figures["resnet18"] = apart("resnet18", options.rounds, 1, precision)
    if not options.skip_threads:
        figures["two threads"] = {
            "resnet8-small": threads("resnet8-small", precision, 3, 5),
            "resnet18": threads("resnet18", precision, 3, 15),
        }
    record(
        "step",
        figures,
        note="CPU time per step, batch 128. `to bare`: the bare forward/backward/update alternates with every side.",
    )


if __name__ == "__main__":
    main()
