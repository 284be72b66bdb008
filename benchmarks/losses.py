"""Every distillation loss trains a 4-bit student through the command line, compared with the same student without one.

    python benchmarks/losses.py                                      # digits
    python benchmarks/losses.py --data cifar10 --data-root ~/data    # CIFAR-10, all 50,000 images

All students begin with the teacher's weights and see the same batches; crop (and on CIFAR flip) is the only
augmentation, so that the loss is the only difference. One seed: the figures show that a loss trains, not which one is
better. Warnings are errors. Each training is a process of its own with one thread; `--jobs` of them run side by side.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import record

from rolewise.kd import LOSSES

SIZES = {
    "digits": {"epochs": 25, "batch": 32, "teacher_epochs": 12, "flip": "false", "crop": 2},
    "cifar10": {"epochs": 2, "batch": 128, "teacher_epochs": 6, "flip": "true", "crop": 4},
}
# A student of two epochs cannot use a width of the published size, nor the time it takes.
ARGUMENTS = {"reviewkd": "{width: 32}"}


def command(role: str, out: Path, options: argparse.Namespace, *more: str) -> list[str]:
    size = SIZES[options.data]
    settings = {
        "machine.threads": 1,
        "teacher.network": "cnn-tiny",
        "kd.prepare_epochs": 1,
        f"{role}.train.batch_size": size["batch"],
        f"{role}.train.flip": size["flip"],
        f"{role}.train.crop": size["crop"],
        "data.search_train": 256,
        "data.search_validation": 256,
        "search.batch_size": 64,
    }
    texts = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    place = ["--data-root", options.data_root] if options.data_root else []
    base = [sys.executable, "-W", "error", "-m", "rolewise.cli", "train", "--role", role, "--out", str(out)]
    return [*base, "--data", options.data, *place, "--schedule", "none", "--quiet", *texts, *more]


def result(out: Path, role: str) -> dict[str, Any]:
    rows = json.loads((out / "results.json").read_text("utf-8"))["rows"]
    found = next(row for row in rows if row["role"] == role)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    kd = [line["kd"] for line in lines if "kd" in line]
    return {
        "accuracy": found["accuracy"],
        "n": found["n"],
        "kd of the first and last epoch": [kd[0], kd[-1]] if kd else None,
    }


def run(arguments: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    if done.returncode or done.stderr.strip():
        raise SystemExit(f"{' '.join(arguments)}\n{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=sorted(SIZES), default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[*LOSSES], default=[*LOSSES])
    options = parser.parse_args()
    size = SIZES[options.data]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run(command("teacher", home / "teacher", options, "--epochs", str(size["teacher_epochs"])))
        teacher = [
            "--teacher",
            str(home / "teacher" / "teacher.safetensors"),
            "--epochs",
            str(size["epochs"]),
        ]

        def student(loss: str) -> dict[str, Any]:
            extra = ["--set", f"kd.arguments={ARGUMENTS[loss]}"] if loss in ARGUMENTS else []
            run(command("student", home / loss, options, *teacher, "--kd", loss, *extra))
            print(loss, result(home / loss, "student"), file=sys.stderr, flush=True)
            return result(home / loss, "student")

        with ThreadPoolExecutor(options.jobs) as pool:
            names = ["none", *options.only]
            found = dict(zip(names, pool.map(student, names), strict=True))
        plain = found["none"]["accuracy"]
        for one in found.values():
            one["share of no KD"] = round(one["accuracy"] / plain, 4)
        figures = {
            "teacher": result(home / "teacher", "teacher"),
            "size": size,
            "students": found,
            "lowest share of no KD": min(one["share of no KD"] for one in found.values()),
        }
    record(
        f"losses-{options.data}",
        figures,
        note="cnn-tiny, 4-bit, from the teacher's weights, one seed. `none` is the student without KD.",
    )


if __name__ == "__main__":
    main()
