"""Runs the benchmarks, each in a process of its own, then draws docs/performance.md from what they recorded.

python benchmarks/run_all.py                       # all, half an hour on two quiet cores
python benchmarks/run_all.py --only step kd        # some
python benchmarks/run_all.py --quick               # fewer rounds, to see that they work; nothing of it is kept
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# The script of each, and what makes it short.
BENCHMARKS = {
    "step": ["step.py", "--rounds", "2", "--skip-threads"],
    "floors": ["floors.py", "--rounds", "2"],
    "augment": ["augment.py", "--rounds", "2"],
    "kd": ["kd.py", "--rounds", "2"],
    "quant": ["quant.py", "--rounds", "2"],
    "search": ["search.py", "--rounds", "1", "--no-ray"],
    "inference": ["inference.py", "--rounds", "2", "--only", "resnet20"],
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=sorted(BENCHMARKS), default=sorted(BENCHMARKS))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **({"ROLEWISE_BENCHMARK_RESULTS": folder} if options.quick else {})}
        for name in options.only:
            script, *short = BENCHMARKS[name]
            command = [sys.executable, str(HERE / script), *(short if options.quick else [])]
            print(f"== {' '.join(command[1:])}", flush=True)
            if subprocess.run(command, cwd=HERE.parent, env=environment).returncode:
                failed.append(name)
    if not options.quick:
        subprocess.run([sys.executable, str(HERE / "page.py")], cwd=HERE.parent, check=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
