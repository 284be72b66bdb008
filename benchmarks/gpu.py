"""All that is to be measured on a GPU, in portions: correctness, then throughput, then the whole pipeline.

    python benchmarks/gpu.py --out runs/gpu --minutes 9 --data-root DIR    # again and again, until it exits with 0
    python benchmarks/gpu.py --out runs/smoke --device cpu --smoke         # that it works, in seconds

`--out`/gpu.json holds what is done; the next call goes on behind it, amid a search or a training as well. Exit status:
0 all done, 1 a check or a part failed, 2 bad input, 75 time is up. Needs torch, numpy, numba, pydantic, safetensors and
filelock; no installation of this package; jaxtyping is taken where it is there. All of it is UNMEASURED so far, CUDA
graphs (`gpu_graph.py`) above all. `--data-root` is the folder with `cifar-10-batches-bin` and `cifar-100-binary`.
"""

import argparse
import gc
import json
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import gpu_checks as checks
import gpu_imports
import gpu_parts as parts
import gpu_speed as speed
import torch
from gpu_graph import graphed_trainers
from gpu_parts import KINDS, Figures, Size

from rolewise.config import load_config
from rolewise.errors import InputError, Interrupted
from rolewise.runs import environment, layout, write_atomic
from rolewise.stages import open_pipeline, run_all
from rolewise.trainer import TrainSettings

DONE, FAILED, BAD_INPUT, TIME_IS_UP = 0, 1, 2, 75


class Portions:
    """What is done so far, kept in a file after each unit.

    Raises:
        InputError: the file was made on other hardware, by another commit or with other options.
    """

    def __init__(self, out: Path, about: Figures) -> None:
        self.path = out / "gpu.json"
        out.mkdir(parents=True, exist_ok=True)
        content = json.loads(self.path.read_text("utf-8")) if self.path.exists() else about | {"figures": {}}
        for key, value in about.items():
            if content[key] != value and key not in ("measured", "command"):
                raise InputError(
                    f"{self.path} is of other {key} than this call's: "
                    f"{json.dumps(content[key])} against {json.dumps(value)}. Name another `--out`."
                )
        self.content = content

    @property
    def figures(self) -> Figures:
        found: Figures = self.content["figures"]
        return found

    def done(self, name: str) -> bool:
        """Whether a unit is complete; one that failed, or a pipeline amid its work, is not."""
        return name in self.figures and not self.figures[name].keys() & {"failed", "interrupted"}

    def keep(self, name: str, figures: Figures) -> None:
        self.figures[name] = figures
        if not self.content["options"]["smoke"]:
            self.content["verdicts"] = verdicts(self.figures)
        write_atomic(self.path, (json.dumps(self.content, indent=2) + "\n").encode())


def verdicts(figures: Figures) -> list[Figures]:
    """The targets whose figures are there."""

    def median(unit: str, *keys: str) -> float | None:
        found: Any = figures.get(unit, {})
        for key in (*keys, "median"):
            found = found.get(key, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, float | int) else None

    kd, bare = (
        median(f"throughput: {kind}", "graphed", "ms a step")
        for kind in ("4-bit + ii-kd", "4-bit + soft, two backwards")
    )
    most = [median("members: plain, 16", f"{streams} streams", "to one at a time") for streams in (1, 2, 4)]
    seconds = figures.get("pipeline, graphed", {}).get("seconds")
    complete = "pipeline, graphed" in figures and "rows" in figures["pipeline, graphed"]
    rows = (
        ("graphed step to eager, plain", median("throughput: plain", "graphed", "to eager"), 1.5, True),
        ("16 members to one at a time", max((m for m in most if m), default=None), 1.2, True),
        ("share of II-KD's terms in a step", 1 - bare / kd if kd and bare else None, 0.2, False),
        ("plain training, images/s", median("throughput: plain", "graphed", "images/s"), 40_000, True),
        ("whole pipeline, minutes", seconds / 60 if complete else None, 30, False),
    )
    return [
        {"what": what, "measured": got, "target": f"at {'least' if least else 'most'} {target:,}",
         "holds": got >= target if least else got <= target}
        for what, got, target, least in rows
        if got is not None
    ]  # fmt: skip


def units(
    size: Size, options: argparse.Namespace, expired: Callable[[], bool]
) -> dict[str, Callable[..., Any]]:
    """Everything to be done, in this order; the names that begin with `check` decide whether the rest is worth it."""
    made: dict[str, Callable[..., Any]] = {
        "check: float32 on the device against the CPU": partial(checks.check_gradient, size, "device"),
        "check: bf16 against float32": partial(checks.check_gradient, size, "bf16"),
        "check: short training in bf16 against float32": partial(checks.check_training, size),
    }
    if "compiled" in size.modes:
        made["check: compiled against eager"] = partial(checks.check_gradient, size, "compiled")
    if size.device.startswith("cuda"):
        made["check: graph against eager"] = partial(checks.check_graph, size)
    for kind in KINDS:
        made[f"throughput: {kind}"] = partial(speed.throughput, size, kind)
    for kind in ("plain", "4-bit + ii-kd"):
        for members in size.members:
            made[f"members: {kind}, {members}"] = partial(speed.together, size, kind, members)
    made["feeding"] = partial(speed.feeding, size)
    made["evaluation"] = partial(speed.evaluation, size)
    if options.data_root is not None or options.smoke:
        for graphed in (False, True):
            name = f"pipeline, {'graphed' if graphed else 'eager'}"
            folder = options.out / name.replace(", ", "-")
            made[name] = partial(pipeline, options, folder, expired, graphed=graphed)
    return made


def _settings(options: argparse.Namespace) -> Any:
    """The paper's ResNet18 cell, with the teacher's search on CIFAR-10; a run of seconds on digits for `--smoke`."""
    tree: Figures = {"baselines": False, "machine.device": options.device, "machine.workers": 1}
    if options.smoke:
        short = {"population": 4, "epochs": 2, "interval": 1, "batch_size": 64}
        tree |= {f"search.{key}": value for key, value in short.items()}
        tree |= {"data.search_train": 64, "data.search_validation": 64, "kd.prepare_epochs": 1}
        tree |= {"teacher.train.epochs": 1, "student.train.epochs": 1, "kd.loss": "soft"}
        return load_config(preset="demo", options=tree)
    tree |= {"data.root": str(options.data_root), "machine.compile": options.compile}
    tree |= {"search.interval": 10} if options.interval_10 else {}
    return load_config(preset="paper-cifar100-resnet18-w4a4", options=tree)


def pipeline(
    options: argparse.Namespace, folder: Path, expired: Callable[[], bool], *, graphed: bool
) -> Figures:
    """Both stages through the run directory `folder`, as far as the time allows.

    Raises:
        Interrupted: time is up; the run directory holds everything.
    """
    there = (folder / layout.CONFIG).exists()
    opened = (
        open_pipeline(resume=folder, should_stop=expired)
        if there
        else open_pipeline(_settings(options), out=folder, should_stop=expired)
    )
    with opened as run, graphed_trainers() if graphed else nullcontext([]) as reasons:
        results = run_all(run)
    return {"rows": results["rows"], "costs": results["costs"], "stayed eager": sorted(set(reasons))}


def work(
    portions: Portions, todo: dict[str, Callable[..., Any]], expired: Callable[[], bool], anyway: bool
) -> int:
    """Does unit after unit; returns the exit status."""
    for name, unit in todo.items():
        if portions.done(name):
            continue
        if expired():
            left = sum(not portions.done(one) for one in todo)
            print(f"time is up: {left} of {len(todo)} left; the same command goes on", file=sys.stderr)
            return TIME_IS_UP
        wrong = [
            key for key, value in portions.figures.items() if key.startswith("check") and not value.get("ok")
        ]
        if wrong and not anyway and not name.startswith("check"):
            break
        before = portions.figures.get(name, {}).get("seconds", 0.0)
        start = time.monotonic()
        try:
            found = unit()
        except Interrupted as error:
            found = {"interrupted": str(error)}
        except InputError:
            raise
        except (
            Exception
        ) as error:  # out of memory, an operation that is missing: the rest is still worth having
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        found["seconds"] = round(before + time.monotonic() - start, 1)
        portions.keep(name, found)
        print(f"{name}: {json.dumps(found)}", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if "interrupted" in found:
            return TIME_IS_UP
    return conclude(portions, todo)


def conclude(portions: Portions, todo: dict[str, Callable[..., Any]]) -> int:
    """Says what holds; returns the exit status."""
    for verdict in portions.content.get("verdicts", []):
        holds = "holds" if verdict["holds"] else "MISSED"
        print(f"{holds}: {verdict['what']} {verdict['measured']:,.4g}, {verdict['target']}")
    bad = [name for name in todo if not portions.done(name) or portions.figures[name].get("ok") is False]
    for name in bad:
        print(f"failed or left out: {name}", file=sys.stderr)
    return FAILED if bad else DONE


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu.json and the run directories")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after so long")
    parser.add_argument("--data-root", type=Path, help="folder of the CIFAR binary files; else no pipeline")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: that it works, no figures")
    parser.add_argument("--anyway", action="store_true", help="go on although a check failed")
    parser.add_argument("--compile", action="store_true", help="of the pipeline's networks")
    parser.add_argument(
        "--interval-10", action="store_true", help="the pipeline decides every 10 epochs, not 3"
    )
    parser.add_argument("--commit", help="of this checkout, where git cannot tell")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    start = time.monotonic()

    def expired() -> bool:
        return time.monotonic() - start >= 60 * options.minutes

    try:
        TrainSettings(1, device=options.device).resolved()
        here = environment()
        here["commit"] = options.commit or here["commit"]
        here["hardware"].pop("threads")
        about = {
            "name": "gpu",
            "command": f"python benchmarks/gpu.py {' '.join(sys.argv[1:])}",
            "measured": time.strftime("%Y-%m-%d"),
            "environment": here,
            "options": {"device": options.device, "smoke": options.smoke, "compile": options.compile,
                        "interval_10": options.interval_10, "jaxtyping missing": gpu_imports.JAXTYPING_MISSING},
        }  # fmt: skip
        size = parts.smoke(options.device) if options.smoke else parts.full(options.device)
        return work(Portions(options.out, about), units(size, options, expired), expired, options.anyway)
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
