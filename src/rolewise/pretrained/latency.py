"""How long a batch takes in each runtime on the machine at hand, measured in turns."""

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rolewise.pretrained.formats import export
from rolewise.pretrained.onnx_network import onnx_network
from rolewise.pretrained.openvino_file import shared_core
from rolewise.pretrained.openvino_network import OpenVinoNetwork, openvino_network
from rolewise.pretrained.tracing import copy_module
from rolewise.quant import frozen_weights

Run = Callable[[Tensor], Any]
_FEATURES = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
)


def processor_features() -> list[str]:
    """What the processor offers for integers of 8 bits and for bfloat16, as Linux names it; empty where unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return []
    flags = next(
        (line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), ""
    ).split()
    return [name for name in _FEATURES if name in flags]


def has_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor."""
    return "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def runtimes(
    plain: nn.Module,
    low: nn.Module | None,
    folder: Path,
    image_size: tuple[int, int],
    threads: int,
    *,
    with_openvino: bool = True,
) -> tuple[dict[str, Run], dict[str, Path], OpenVinoNetwork | None]:
    """The networks to compare, by name, their files, and the low-bit network in OpenVINO.

    Args:
        plain: the float network.
        low: the quantized network, if there is one.
        folder: folder in which the files are written.
        image_size: height and width.
        threads: number of threads of each runtime.
        with_openvino: whether OpenVINO is among the runtimes.
    """
    runs: dict[str, Run] = {"PyTorch float32": _torch_run(plain)}
    files: dict[str, Path] = {}

    def add(kind: str, model: nn.Module, form: str) -> Path:
        suffix = ".onnx" if kind == "onnxruntime" else ".xml"
        path = export(model, folder / f"{form}{suffix}", image_size=image_size)
        files[f"{kind} {form}"] = path
        return path

    runs["onnxruntime float32"] = onnx_network(add("onnxruntime", plain, "float32"), threads=threads)
    if with_openvino:
        float_file = add("OpenVINO", plain, "float32")
        runs["OpenVINO float32"] = openvino_network(float_file, threads=threads)
        if has_bf16():
            runs["OpenVINO bfloat16"] = openvino_network(float_file, threads=threads, precision="bf16")
    if low is None:
        return runs, files, None
    runs["onnxruntime low-bit"] = onnx_network(add("onnxruntime", low, "low-bit"), threads=threads)
    if not with_openvino:
        return runs, files, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report lists the layers that run in float
        network = openvino_network(add("OpenVINO", low, "low-bit"), threads=threads)
    runs["OpenVINO low-bit"] = network
    return runs, files, network


def _torch_run(model: nn.Module) -> Run:
    network = copy_module(model).cpu().float().eval()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad(), frozen_weights(network):
            found: Tensor = network(images)
        return found

    return run


def in_turns(
    runs: Mapping[str, Run],
    images: Tensor,
    *,
    rounds: int,
    seconds: float,
    threads: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of one batch for each runtime, which take turns, so that a load on the machine meets all alike.

    Args:
        runs: the networks.
        images: the batch.
        rounds: minimum number of turns.
        seconds: minimum duration, up to 1,000 turns.
        threads: number of threads of PyTorch.
        clock: reads seconds; `time.process_time` on a machine that others load too, where there is one thread.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for run in runs.values():  # buffers and caches
            run(images)
            run(images)
        taken: dict[str, list[float]] = {name: [] for name in runs}
        begin = time.perf_counter()
        for turn in range(1000):
            if turn >= rounds and time.perf_counter() - begin >= seconds:
                break
            for name, run in runs.items():
                start = clock()
                run(images)
                taken[name].append(clock() - start)
    finally:
        torch.set_num_threads(before)
    return taken


def medians(taken: Mapping[str, list[float]]) -> dict[str, float]:
    """Median milliseconds of each."""
    return {name: 1e3 * statistics.median(seconds) for name, seconds in taken.items()}
