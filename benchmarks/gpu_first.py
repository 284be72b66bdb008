r"""What is done first when a GPU is at hand for a quarter of an hour: checks, speed, a row of the paper's table.

Two calls, each of units with a time of their own. A unit that fails, is wrong or takes too long keeps no other from its
turn; `gpu.json` in the folder `--out` is written after each. What an earlier machine wrote is reused (`--earlier`), if
commit and options are the same; each unit says which machine it ran on. Exit status: 0 all done, 1 something failed or
was left out, 2 bad input. Needs torch, numpy, numba, pydantic, safetensors, filelock and Pillow, no installation.
What it measured on an H100: `docs/performance.md`; `gpu_results.py` makes results of what came back.

Beforehand, in the checkout: `.whl` holds wheels of what the machine lacks (pydantic, pydantic-core, annotated-types,
typing-inspection, typing-extensions); `.gpu` the first half of CIFAR-100's archives with `unpack.py`, and the commit:

    python unpack.py parts cifar100 --max-mb 50 --trip 1 .gpu && git rev-parse HEAD > .gpu/commit

First call (330 s; `.whl` and `.gpu` travel along; OUT is the folder that comes back):

    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl
    export PYTHONPATH=/tmp/site PYTHONUNBUFFERED=1
    mkdir -p /tmp/cifar && cp .gpu/* /tmp/cifar/
    python3 benchmarks/gpu_first.py measure --out $OUT --minutes 5.2 --commit $(cat .gpu/commit)
    cp $OUT/gpu.json /tmp/

Second call (440 s), within half a minute, with trip 2 and the same `commit` in `.gpu`. On a fresh machine, where the
first call left nothing, `.gpu` holds trip 1 and the first call's `gpu.json`: then 20,000 training images are used.

    export PYTHONPATH=/tmp/site PYTHONUNBUFFERED=1
    test -d /tmp/site || python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
        --target /tmp/site .whl/*.whl
    mkdir -p /tmp/cifar && cp .gpu/* /tmp/cifar/
    test -f /tmp/cifar/cifar100-lossless-train_5.tar && form="python --check" || form="binary --allow-missing"
    python3 /tmp/cifar/unpack.py cifar100 /tmp/data --source /tmp/cifar --format $form
    for f in /tmp/gpu.json .gpu/gpu.json; do test -f $f && earlier="--earlier $f" && break; done
    python3 benchmarks/gpu_first.py row --out $OUT --minutes 6.9 --commit $(cat .gpu/commit) \
        --data-root /tmp/data $earlier

Here, in seconds: `python benchmarks/gpu_first.py all --smoke --device cpu --out runs/first`.
"""

import argparse
import faulthandler
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import gpu_checks as checks
import gpu_imports
import gpu_parts as parts
import gpu_speed as speed
import torch
from gpu_book import BAD_INPUT, Book, Unit, supervised, work
from gpu_parts import Figures, Size
from gpu_row import FULL, SMOKE, Row

from rolewise.errors import InputError
from rolewise.runs import environment
from rolewise.trainer import TrainSettings

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/kd/test_further.py",
    "tests/kd/test_subspace.py",
    "tests/quant/test_dorefa.py",
    "tests/trainer",
)


def measurements(size: Size, out: Path) -> dict[str, Unit]:
    """The first call's units, in this order."""
    small = parts.Size(
        **{**vars(size), "network": size.small, "lanes": (1, 4, 8) if size.members > 2 else (1, 2)}
    )
    profiled = ("plain", "4-bit", "4-bit + ii-kd") if len(size.kinds) > 2 else size.kinds
    made = {
        "device": Unit(lambda _: device(size), 3),
        "tests": Unit(lambda until: cuda_tests(size, until), 30),
        "check: quantizers": Unit(lambda _: checks.check_quantizers(size), 5),
        "check: losses": Unit(lambda _: checks.check_losses(size), 10),
        "check: float32 against the CPU": Unit(lambda _: checks.check_gradient(size, "device"), 15),
        "check: graph against eager": Unit(lambda _: checks.check_graph(size, min(8, size.steps)), 25),
    }
    for kind in size.kinds:
        made[f"throughput: {kind}"] = Unit(partial(speed.throughput, size, kind), 10)
    made["profile"] = Unit(lambda _: speed.profile(size, out, profiled), 12)
    for kind in ("plain", "4-bit + ii-kd"):
        made[f"lanes: {kind}"] = Unit(partial(speed.lanes, size, kind), 20)
    made["lanes: small network"] = Unit(partial(speed.lanes, small, "plain"), 10)
    made["evaluation"] = Unit(partial(speed.evaluation, size), 6)
    made["feeding"] = Unit(partial(speed.feeding, size), 10)
    made["states"] = Unit(partial(speed.states, size), 4)
    made["check: compiled against eager"] = Unit(lambda _: compiled_check(size), 75, apart=True)
    made["compiled"] = Unit(partial(compiled_speed, size), 75, apart=True)
    made["processes"] = Unit(
        partial(speed.processes, size, "4-bit + ii-kd" if size.members > 2 else "plain"), 40
    )
    return made


def device(size: Size) -> Figures:
    """What `nvidia-smi` and PyTorch say of it."""
    if not size.device.startswith("cuda"):
        return {"not here": "no CUDA device"}
    found: Figures = {"cuDNN": torch.backends.cudnn.version(), "CUDA": torch.version.cuda}
    try:
        fields = "name,driver_version,memory.total,clocks.max.sm,power.limit"
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        found[fields] = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except OSError as error:
        found["nvidia-smi"] = str(error)
    return found


def cuda_tests(size: Size, until: float) -> Figures:
    """The tests that need a device, without what the tests' own packages would be needed for."""
    if size.members <= 2 or not size.device.startswith("cuda"):
        return {"not here": "tiny sizes or no CUDA device"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        *TESTS,
        "-m",
        "gpu",
        "--noconftest",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=max(1.0, until - time.monotonic()),
    )
    return {"ok": found.returncode == 0, "end": found.stdout.splitlines()[-15:]}


def compiled_check(size: Size) -> Figures:
    if size.members <= 2:
        return {"not here": "tiny sizes"}
    return checks.check_gradient(size, "compiled")


def compiled_speed(size: Size, until: float) -> Figures:
    if size.members <= 2:
        return {"not here": "tiny sizes"}
    modes = ("eager", "compiled")
    return {kind: speed.throughput(size, kind, until, modes) for kind in ("plain", "4-bit")}


def apart(out: Path, name: str, until: float) -> Figures:
    """What a process of its own finds, which does this unit alone."""
    folder = out.parent / f"{out.name}-apart"
    words = [word for word in sys.argv[1:] if word not in ("all", "measure", "row")]
    command = [sys.executable, __file__, "measure", *words, "--inner", "--out", str(folder), "--only", name]
    try:
        subprocess.run(command, capture_output=True, timeout=max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return {"failed": "it took too long"}
    found: Figures = json.loads((folder / "gpu.json").read_text("utf-8"))["figures"][name]
    return {key: value for key, value in found.items() if key not in ("machine", "seconds")}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("measure", "row", "all"))
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.json, profiles and schedules")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="no unit begins that would end later"
    )
    parser.add_argument("--earlier", type=Path, help="a gpu.json of an earlier machine")
    parser.add_argument(
        "--data-root", type=Path, help="folder of cifar-100-python, or of a part of it as cifar-100-binary"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: that it works, no figures")
    parser.add_argument("--commit", help="commit of this checkout, where git cannot name it")
    parser.add_argument("--only", action="append", help="a unit; may be repeated")
    parser.add_argument("--skip", action="append", default=[], help="a unit to leave out; may be repeated")
    parser.add_argument(
        "--inner", action="store_true", help="in this process: if a unit kills it, the rest is not done"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    end = time.monotonic() + 60 * options.minutes
    if options.inner or options.smoke:
        return in_this_process(options, end)

    def start(fatal: list[str]) -> int:
        """In a copy of this process, which has imported everything and not yet touched the device."""
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            faulthandler.enable()
            options.skip += fatal
            status = in_this_process(options, end)
            sys.stdout.flush()
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return supervised(options.out / "gpu.json", start)


def in_this_process(options: argparse.Namespace, end: float) -> int:
    """All units, until `end` (monotonic)."""

    def left() -> float:
        return end - time.monotonic()

    try:
        TrainSettings(1, device=options.device).resolved()
        machine = environment()
        commit = machine["commit"] = options.commit or machine["commit"]
        about = {
            "name": "gpu_first",
            "commit": commit,
            "options": {"device": options.device, "smoke": options.smoke},
            "measured": time.strftime("%Y-%m-%d"),
        }
        machine["jaxtyping missing"] = gpu_imports.JAXTYPING_MISSING
        book = Book(options.out, about, machine)
        if options.earlier is not None:
            book.reuse(options.earlier)
        size = parts.smoke(options.device) if options.smoke else parts.full(options.device)
        todo: dict[str, Unit] = {}
        if options.part != "row":
            todo |= measurements(size, options.out)
        if options.part != "measure":
            row = Row(
                SMOKE if options.smoke else FULL, options.out, options.data_root, options.device, book.figures
            )
            todo |= {name: Unit(*unit) for name, unit in row.units(left).items()}
        if options.only is not None:
            todo = {name: replace(todo[name], apart=False) for name in options.only}
        todo = {name: unit for name, unit in todo.items() if name not in options.skip}
        alone = options.smoke or not options.device.startswith("cuda")
        here = {name: unit.call for name, unit in todo.items()}
        one = (lambda name, until: here[name](until)) if alone else partial(apart, options.out)
        return work(book, todo, left, one, slack=float("inf") if options.smoke else 2.0)
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
