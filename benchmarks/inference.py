"""Latency of low-bit students in each runtime, in turns, on the processor at hand.

python benchmarks/inference.py                 # ResNet18 4/4 and 2/2, resnet20 4/4, batch 1 and 64, one thread
python benchmarks/inference.py --rounds 5 --only resnet20
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import ratio, record, summary

from rolewise.networks import build
from rolewise.pretrained.costs import layer_costs
from rolewise.pretrained.latency import in_turns, processor_features, runtimes
from rolewise.quant import quantize

CASES = {
    "resnet18 4/4": ("resnet18", 4),
    "resnet18 2/2": ("resnet18", 2),
    "resnet20 4/4": ("resnet20", 4),
    "resnet20 2/2": ("resnet20", 2),
}
BASE = "onnxruntime float32"


def normalized(name: str) -> torch.nn.Module:
    """A network whose BatchNorm has seen data, as a trained one's has: weights and speed do not depend on training."""
    model = build(name, num_classes=100)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain average
    with torch.no_grad():
        for _ in range(2):
            model.train()(torch.randn(32, 3, 32, 32, generator=generator))
    return model.eval()


def measure(name: str, bits: int, *, rounds: int, batches: list[int], threads: int) -> dict[str, Any]:
    """All runtimes on one network: milliseconds, and speed relative to onnxruntime float32, turn by turn."""
    # CPU time of all threads of the process: where there is one thread, other processes do not move it.
    clock = time.process_time if threads == 1 else time.perf_counter
    plain = normalized(name)
    low = quantize(normalized(name), bits, bits)
    with tempfile.TemporaryDirectory() as folder:
        runs, files, network = runtimes(plain, low, Path(folder), (32, 32), threads)
        assert network is not None
        sizes = {key: path.stat().st_size for key, path in files.items()}
        sizes |= {
            key: sizes[key] + files[key].with_suffix(".bin").stat().st_size for key in sizes if "VINO" in key
        }
        found: dict[str, Any] = {}
        for batch in batches:
            images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))
            taken = in_turns(runs, images, rounds=rounds, seconds=0, threads=threads, clock=clock)
            found[f"batch {batch}"] = {
                kind: {
                    "milliseconds": summary([1e3 * one for one in seconds]),
                    "speed": ratio(taken[BASE], seconds),
                }
                for kind, seconds in taken.items()
            }
    integer = {layer.name for layer in network.layers if layer.integer}
    costs = layer_costs(low)
    return {
        **found,
        "bytes": sizes,
        "macs": sum(cost.macs for cost in costs),
        "macs in 8-bit integers": sum(cost.macs for cost in costs if cost.name in integer),
        "kernels": sorted({layer.primitive for layer in network.layers if layer.integer}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=sorted({name for name, _ in CASES.values()}))
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    figures: dict[str, Any] = {"features": processor_features(), "threads": options.threads}
    for title, (name, bits) in CASES.items():
        if options.only is None or name in options.only:
            figures[title] = measure(
                name, bits, rounds=options.rounds, batches=options.batches, threads=options.threads
            )
    record("inference", figures, note=options.note)


if __name__ == "__main__":
    main()
