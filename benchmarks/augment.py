"""Augmentation against Pillow, the published pipeline and itself, paired in one run.

    python benchmarks/augment.py --data-root DIR   # with cifar-10-batches-py in it; without it, made-up images
    python benchmarks/augment.py --rounds 3           # quicker, coarser

Bounds: at least 20 times a lean Pillow pipeline for the ops (3 times at 224 x 224), at least 60 times the published
functions for the whole path, two threads at least 90 % of two processes, import at most 1 s, memory a few MB.
"""

import argparse
import multiprocessing
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from augment_rivals import Lean, Published
from common import alternate, ratio, record, summary
from PIL import Image

from rolewise.augment import BatchAugmenter, Policy
from rolewise.data import load_data

# The last policy of the published CIFAR-10 schedule (PBA's rcifar10_16_wrn.txt).
VECTOR = [
    0, 6, 6, 6, 10, 0, 3, 4, 5, 8, 0, 9, 7, 3, 0, 6, 0, 2, 10, 5, 10, 2, 10, 6, 10, 9, 0, 8, 10, 7,
    2, 7, 8, 6, 6, 7, 10, 3, 9, 4, 0, 8, 0, 1, 5, 0, 8, 7, 3, 3, 2, 3, 0, 8, 3, 3, 5, 2, 7, 6,
]  # fmt: skip
MEAN, STD = (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)


def pictures(root: str | None, n: int, side: int = 32) -> np.ndarray:
    """uint8 `(n, side, side, 3)`: photographs, or smooth random ones with noise; larger ones are enlarged from 32."""
    if root is not None:
        images = load_data("cifar10", root).train.images[:n].numpy()
    else:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (n, 5, 5, 3)).astype(np.uint8)
        smooth = [np.asarray(Image.fromarray(c).resize((32, 32), Image.Resampling.BICUBIC)) for c in coarse]
        images = (np.stack(smooth) + rng.normal(0, 4, (n, 32, 32, 3))).clip(0, 255).astype(np.uint8)
    if side != 32:
        larger = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in images]
        images = np.stack([np.asarray(image) for image in larger])
    return images


def slots(policy: Policy) -> list[tuple[str, float, int]]:
    return [(name, tenths / 10, magnitude) for name, tenths, magnitude in policy.settings]


def against(rival: Any, ours: Any, n: int, repeats: int, rounds: int) -> dict[str, Any]:
    """Both sides on n images, ours `repeats` times in a row, so that both take long enough to be timed."""

    def several() -> None:  # as in training, no result is kept
        for _ in range(repeats):
            ours()

    seconds = alternate({"rival": rival, "ours": several}, rounds=rounds, clock=time.process_time)
    mine = [s / repeats for s in seconds["ours"]]
    return {
        "rival us/image": summary([s / n * 1e6 for s in seconds["rival"]]),
        "ours us/image": summary([s / n * 1e6 for s in mine]),
        "rival / ours": ratio(seconds["rival"], mine),
    }


def ops(policy: Policy, images: np.ndarray, rounds: int, repeats: int) -> dict[str, Any]:
    """The ops alone: bytes in, bytes out."""
    lean, ids = Lean(slots(policy)), np.arange(len(images))
    return against(
        lambda: lean(images),
        lambda: policy.apply(images, seed=0, epoch=0, ids=ids),
        len(images),
        repeats,
        rounds,
    )


def whole(policy: Policy, images: np.ndarray, rounds: int, dtype: torch.dtype, last: bool) -> dict[str, Any]:
    """Policy, crop, flip, cutout, normalization."""
    published = Published(slots(policy), MEAN, STD)
    floats = (images / 255.0 - MEAN) / STD
    augmenter, ids = BatchAugmenter(MEAN, STD, cutout=16), np.arange(len(images))
    out = augmenter(images, policy=policy, seed=0, epoch=0, ids=ids, dtype=dtype, channels_last=last)
    return against(
        lambda: published(floats),
        lambda: augmenter(
            images, policy=policy, seed=0, epoch=0, ids=ids, dtype=dtype, channels_last=last, out=out
        ),
        len(images),
        40,
        rounds,
    )


def work(policy: Policy, images: np.ndarray, threads: int, passes: int) -> float:
    """Seconds of a number of passes."""
    ids = np.arange(len(images))
    start = time.perf_counter()
    for _ in range(passes):
        policy.apply(images, seed=0, epoch=0, ids=ids, threads=threads)
    return time.perf_counter() - start


def _process(pipe: Connection, images: np.ndarray, passes: int) -> None:
    """A process of its own that works once for each message."""
    policy = Policy.from_vector(VECTOR)
    work(policy, images[:64], 1, 1)
    pipe.send("ready")
    while pipe.recv():
        pipe.send(work(policy, images, 1, passes))


def threads_against_processes(images: np.ndarray, rounds: int, passes: int = 10) -> dict[str, Any]:
    """Images per second of two threads and of two independent processes, in turn, on the same images."""
    policy = Policy.from_vector(VECTOR)
    context = multiprocessing.get_context("spawn")
    half = len(images) // 2
    pipes = []
    for part in (images[:half], images[half:]):
        ours, theirs = context.Pipe()
        context.Process(target=_process, args=(theirs, part, passes), daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    work(policy, images, 2, 1)
    threads, processes = [], []
    for _ in range(rounds):
        threads.append(passes * len(images) / work(policy, images, 2, passes))
        for pipe in pipes:
            pipe.send(True)
        processes.append(sum(passes * half / pipe.recv() for pipe in pipes))
    for pipe in pipes:
        pipe.send(False)
    return {
        "two threads images/s": summary(threads),
        "two processes images/s": summary(processes),
        "threads / processes": ratio(threads, processes),
    }


def import_seconds(rounds: int) -> dict[str, Any]:
    """`import torch, numba` without and with `rolewise.augment`, each in a fresh process, in turn."""
    lines = {"without": "import torch, numba", "with": "import torch, numba, rolewise.augment"}
    sides = {
        name: lambda line=line: subprocess.run([sys.executable, "-c", line], check=True)
        for name, line in lines.items()
    }
    seconds = alternate(sides, rounds=rounds)
    added = [b - a for a, b in zip(seconds["without"], seconds["with"], strict=True)]
    return {"added s": summary(added), **{f"{name} s": summary(values) for name, values in seconds.items()}}


MEMORY = """
import re, torch
from rolewise.augment import BatchAugmenter, Policy
def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
n, ids = 50000, torch.arange(50000)
images = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8)
policy = Policy.from_vector({vector})
augmenter = BatchAugmenter((0.5,) * 3, (0.25,) * 3)
policy.apply(images[:8], seed=0, epoch=0, ids=ids[:8])
augmenter(images[:8], policy=policy, seed=0, epoch=0, ids=ids[:8])
for run in (
    lambda: policy.apply(images, seed=0, epoch=0, ids=ids),
    lambda: augmenter(images, policy=policy, seed=0, epoch=0, ids=ids),
):
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    result = run()
    tensors = result if isinstance(result, tuple) else (result,)
    print(status("VmHWM") - before - sum(t.nbytes for t in tensors) / 2**20)
    del result, tensors
"""


def memory() -> dict[str, float]:
    """MB that 50,000 images take in addition to their output, at the peak (Linux)."""
    code = MEMORY.format(vector=VECTOR)
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    return {name: round(float(value), 1) for name, value in zip(("ops MB", "batch MB"), shown, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", help="folder that holds cifar-10-batches-py")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy.from_vector(VECTOR)
    images = pictures(options.data_root, options.images)
    large = pictures(options.data_root, 48, 224)
    rounds = options.rounds
    figures = {
        "ops 32x32, against lean Pillow": ops(policy, images, rounds, 20),
        "ops 224x224, against lean Pillow": ops(policy, large, rounds, 3),
        "whole path to float32, against the published functions": whole(
            policy, images, rounds, torch.float32, False
        ),
        "whole path to bfloat16 channels_last": whole(
            policy, images, max(3, rounds // 3), torch.bfloat16, True
        ),
        "no policy yet (all probabilities 0), whole path": whole(
            Policy.none(), images, max(3, rounds // 3), torch.float32, False
        ),
        "all probabilities 1, magnitude 9, whole path": whole(
            Policy.from_vector([10, 9] * 30), images, max(3, rounds // 3), torch.float32, False
        ),
        "two threads": threads_against_processes(np.concatenate([images] * 10), rounds),
        "import": import_seconds(max(3, rounds // 2)),
        "memory": memory(),
    }
    kind = "photographs of CIFAR-10" if options.data_root else "made-up smooth images"
    record(
        "augment",
        figures,
        note=f"One thread, CPU time, except threads and import (wall). Images: {kind}. Bounds: see the script.",
    )


if __name__ == "__main__":
    main()
