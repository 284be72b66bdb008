"""The long form of the fuzzing: as many broken inputs and kills as asked for, and a summary.

    python tests/fuzz/soak.py --settings 3000 --records 2000 --kills 40 --record

Every attempt that is faulty, or that only the last resort of the command knew, is printed with its input; the exit
status is 1 if there was one.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "benchmarks")]

from common import record  # noqa: E402
from fuzz_targets import SMALL, TARGETS, faulty, unforeseen  # noqa: E402

from rolewise.runs import layout  # noqa: E402


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


def kills(count: int, seed: int) -> int:
    """Runs that were killed at random moments, several times each, and ended with other bytes."""
    rng, differing, done = random.Random(seed), 0, 0
    options = [text for setting in SMALL for text in ("--set", setting)]
    command = [sys.executable, "-m", "rolewise.cli", "run", "--quiet", "--no-speed"]
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound"
        began = time.monotonic()
        subprocess.run([*command, "--out", str(sound), *options], check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - began
        expected = products(sound)
        number = 0
        while done < count:
            number += 1
            run = Path(folder) / f"killed-{number}"
            more = ["--out", str(run), *options]
            for _ in range(min(4, count - done)):
                process = subprocess.Popen(
                    [*command, *more],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                time.sleep(rng.uniform(0.05, 0.7) * whole)
                os.killpg(process.pid, rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
                process.wait()
                done += 1
                more = (
                    ["--resume", str(run)]
                    if (run / layout.CONFIG).exists()
                    else ["--out", str(run), *options]
                )
            last = subprocess.run([*command, *more], stdout=subprocess.DEVNULL, check=False)
            if last.returncode != 0 or products(run) != expected:
                differing += 1
                print(f"killed run {number}: status {last.returncode}, or other bytes", flush=True)
    return differing


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
    counts = {}
    for name in TARGETS:
        tried = getattr(options, name)
        faults, last_resort = fuzz(name, tried, options.seed)
        counts[name] = {"tried": tried, "faulty": faults, "unforeseen": last_resort}
        print(f"{name}: {counts[name]}", flush=True)
    counts["kills"] = {"tried": options.kills, "faulty": kills(options.kills, options.seed)}
    print(f"kills: {counts['kills']}", flush=True)
    if options.record:
        record("soak", {"seed": options.seed, **counts})
    return int(any(one["faulty"] or one.get("unforeseen") for one in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
