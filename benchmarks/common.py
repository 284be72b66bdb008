"""What the benchmarks share: sides that alternate in one run, and results that say where they come from."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rolewise.runs import environment

# Elsewhere for a run whose figures are worth nothing (`run_all.py --quick`).
RECORDED = "ROLEWISE_BENCHMARK_RESULTS" not in os.environ
RESULTS = Path(os.environ.get("ROLEWISE_BENCHMARK_RESULTS", Path(__file__).parent / "results"))


def alternate(
    sides: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each side in each round. The sides take turns, so that a machine whose speed drifts slows both."""
    for _ in range(warmup):
        for run in sides.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum, rounded to four digits."""
    return {
        "median": _short(statistics.median(values)),
        "min": _short(min(values)),
        "max": _short(max(values)),
        "n": len(values),
    }


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """slow / fast, round by round."""
    return summary([a / b for a, b in zip(slow, fast, strict=True)])


def command_line() -> str:
    """This process's command, the folder of the data set left open."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    if "--data-root" in words[:-1]:
        words[words.index("--data-root") + 1] = "DIR"
    return " ".join(words)


def origin(name: str, *, command: str | None = None) -> dict[str, Any]:
    """What results say of where they come from.

    Args:
        name: name of the benchmark.
        command: `command_line()` unless another one leads to it.
    """
    return {
        "name": name,
        "command": command or command_line(),
        "measured": time.strftime("%Y-%m-%d"),
        "environment": environment(),
    }


def write_results(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes `content` as JSON, and its folder if need be."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def training_parser(
    documentation: str | None, name: str, file: str, *, seeds: int, epochs: int
) -> argparse.ArgumentParser:
    """The options of a benchmark that trains: data, a smoke test, places of runs and results, sizes.

    Args:
        documentation: the benchmark's docstring.
        name: name of its folders of runs and results.
        file: name of its results.
        seeds, epochs: defaults.
    """
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", help="folder that holds CIFAR-10")
    parser.add_argument(
        "--smoke", action="store_true", help="digits and a tiny network: whether it runs at all"
    )
    parser.add_argument("--out", default=str(root / "runs" / name))
    parser.add_argument("--results", default=str(root / "results" / name / file))
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--bits", type=int, nargs="+", choices=(32, 4, 2), default=[32, 4, 2])
    return parser


def record(name: str, figures: Mapping[str, Any], *, command: str | None = None, note: str = "") -> Path:
    """Writes `results/<name>.json`: the figures with commit, hardware, versions, and the command that measured them.

    Args:
        name: name of the benchmark.
        figures: numbers that it measured.
        command: `command_line()` unless another one leads to it.
        note: further remark for readers.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {**origin(name, command=command), "note": note, "figures": figures}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    print(f"{path}:")
    print(json.dumps(figures, indent=2))
    return path


def _short(value: float) -> float:
    return float(f"{value:.4g}")
