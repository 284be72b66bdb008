"""The long form of the fuzzing: as many broken inputs and kills as asked for, and a summary.

    python tests/fuzz/soak.py --settings 3000 --records 2000 --kills 40 --record

Every attempt that is faulty, or that only the last resort of the command knew, is printed with its input; the exit
status is 1 if there was one.
"""

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "benchmarks")]

from common import record  # noqa: E402
from fuzz_targets import SMALL, TARGETS, faulty, unforeseen  # noqa: E402

from rolewise._machine import cores  # noqa: E402
from rolewise.runs import RunDirectory, layout  # noqa: E402


def fuzz(name: str, count: int, seed: int) -> tuple[int, int]:
    """Faulty attempts of `count`, and those that only the last resort of the command knew; each is printed."""
    faults = last_resort = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        attempts = TARGETS[name](Path(folder), random.Random(f"{name}-{seed}"))
        for number, attempt in zip(range(count), attempts, strict=False):
            faults += faulty(attempt)
            last_resort += unforeseen(attempt)
            if faulty(attempt) or unforeseen(attempt):
                print(f"{name} {number}: {attempt[0]}\n-> {attempt[1]}: {attempt[2][-3000:]}", flush=True)
        os.chdir(HERE)
    return faults, last_resort


def products(run: Path) -> dict[str, str]:
    """Digests of all that a run made and that must not depend on an interruption."""
    names = [
        *run.glob("*.safetensors"),
        *run.glob("*/*.safetensors"),
        *run.glob("A_*.json"),
        *run.glob("*.jsonl"),
    ]
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(names)
        if layout.CHECKPOINTS not in path.parts
    }


ENGINES = {
    "one process": (),
    "two workers": ("machine.workers=2",),
    "ray": ("search.engine=ray", "machine.workers=2"),
}
LONGER = (
    "search.epochs=3",
    "search.interval=1",
    "teacher.train.epochs=4",
    "student.train.epochs=3",
    "kd.loss=ii-kd",
    "kd.prepare_epochs=8",
)
COMMAND = [sys.executable, "-m", "rolewise.cli", "run", "--quiet", "--no-speed"]


def kills(count: int, seed: int) -> dict[str, dict[str, int]]:
    """Runs that were killed at random moments, several times each, and ended with other bytes; per engine."""
    rng, found = random.Random(seed), {}
    with tempfile.TemporaryDirectory() as folder:
        expected: dict[str, str] = {}
        for turn, (engine, settings) in enumerate(ENGINES.items()):
            options = [text for setting in (*SMALL, *LONGER, *settings) for text in ("--set", setting)]
            sound = Path(folder) / f"sound {engine}"
            began = time.monotonic()
            subprocess.run([*COMMAND, "--out", str(sound), *options], check=True, stdout=subprocess.DEVNULL)
            whole = time.monotonic() - began
            expected = expected or products(sound)
            share = count // len(ENGINES) + (turn < count % len(ENGINES))
            differing = int(products(sound) != expected)  # every engine gives the same bytes
            reached = Counter[str]()
            while reached.total() < share:
                run, before = Path(folder) / f"{engine} {reached.total()}", reached.total()
                shutil.rmtree(run, ignore_errors=True)
                times = min(4, share - before)
                differing += _killed(run, options, times, whole, expected, rng, reached)
                if reached.total() < before + times:
                    whole *= 0.7  # it had ended before: the machine is faster now
            found[engine] = {"tried": share, "faulty": differing, **reached}
            print(f"kills, {engine}: {found[engine]}", flush=True)
    return found


def _killed(
    run: Path,
    options: list[str],
    times: int,
    whole: float,
    expected: dict[str, str],
    rng: random.Random,
    reached: Counter[str],
) -> bool:
    """Whether a run that was killed up to `times` times, then left to end, ended with other bytes than `expected`.

    Args:
        reached: counts the stage in which each kill came; changed.
    """
    begin = again = [*COMMAND, "--out", str(run), *options]
    for _ in range(times):
        process = subprocess.Popen(
            again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        try:
            process.wait(rng.uniform(0.2, 0.7) * whole)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
            process.wait()
        reached[_stage(run)] += 1
        again = [*COMMAND, "--resume", str(run)] if (run / layout.CONFIG).exists() else begin
    last = subprocess.run(again, stdout=subprocess.DEVNULL, check=False)
    if last.returncode == 0 and products(run) == expected:
        return False
    print(f"killed run {run.name}: status {last.returncode}, or other bytes", flush=True)
    return True


def _stage(run: Path) -> str:
    """The stage that a run was in when it was killed."""
    if not (run / layout.CONFIG).exists():
        return "before its directory"
    with RunDirectory.open(run, read_only=True) as opened:
        done = [stage for stage in opened.begun() if opened.done(stage)]
        under_way = [stage for stage in opened.begun() if not opened.done(stage)]
    if under_way:
        return under_way[-1]
    return f"after {done[-1]}" if done else "before a checkpoint"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in TARGETS:
        parser.add_argument(f"--{name}", type=int, default=100, help="broken inputs (default 100)")
    parser.add_argument("--kills", type=int, default=8, help="kills of whole runs (default 8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/soak.json")
    options = parser.parse_args()
    counts: dict[str, dict[str, int]] = {}
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        asked = {name: getattr(options, name) for name in TARGETS}
        running = {name: pool.submit(fuzz, name, tried, options.seed) for name, tried in asked.items()}
        for name, tried in asked.items():
            faults, last_resort = running[name].result()
            counts[name] = {"tried": tried, "faulty": faults, "unforeseen": last_resort}
            print(f"{name}: {counts[name]}", flush=True)
    counts |= {f"kills, {engine}": found for engine, found in kills(options.kills, options.seed).items()}
    if options.record:
        record("soak", {"seed": options.seed, **counts}, command="make soak")
    return int(any(one["faulty"] or one.get("unforeseen") for one in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
