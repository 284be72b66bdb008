"""What CONTRIBUTING.md promises: a loss, a data set and a search strategy are added in so many files, and then work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import rolewise

ROOT = Path(__file__).resolve().parents[1]

LOSS = '''
from jaxtyping import Float
from torch import Tensor

from rolewise.kd.base import KDLoss, Outputs


class LogitGap(KDLoss):
    """The student's logits are the teacher's.

    Source: a dummy for a test.

    Shape:
        logits (n, k); returns ().
    """

    needs_features = False

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        return (student.logits - teacher.logits).square().mean()
'''

STRATEGY = '''
from rolewise.augment import Schedule
from rolewise.population.strategy import Decision, Strategy


class BestOnly(Strategy):
    """All members become copies of the best one."""

    name = "best-only"

    def beginnings(self, seed, role):
        return [Schedule.none(self.settings.epochs)] * self.settings.population

    def decide(self, scores, vectors, rng):
        best = max(range(len(scores)), key=lambda member: (scores[member] or 0.0, -member))
        return [
            Decision(member, best, tuple(int(rng.integers(0, 10)) for _ in vectors[best]))
            for member in range(len(scores))
            if member != best
        ]
'''

DATA = '''
import torch

from rolewise.data import Data


def load_dots() -> Data:
    """Blank images with a dot in the corner of their class."""
    labels = torch.arange(240) % 2
    images = torch.zeros(240, 32, 32, 3, dtype=torch.uint8)
    images[labels == 1, :8, :8] = 255
    images[labels == 0, -8:, -8:] = 255
    return Data.from_arrays(train=(images[:200], labels[:200]), test=(images[200:], labels[200:]), classes=("a", "b"))
'''

USE = """
import rolewise as rw
from rolewise.cli import main

if __name__ == "__main__":
    assert "logit-gap" in rw.kd.LOSSES
    small = ["search.population=4", "search.epochs=2", "search.interval=1", "search.batch_size=32",
             "data.search_train=64", "data.search_validation=32", "teacher.train.epochs=1", "student.train.epochs=1",
             "machine.workers=1", "machine.threads=1"]
    options = [text for setting in small for text in ("--set", setting)]
    names = ["--kd", "logit-gap", "--data", "dots", "--preset", "demo", "--set", "search.method=best-only"]
    arguments = ["run", "--quiet", "--out", "run", *names]
    raise SystemExit(main([*arguments, *options]))
"""


def row(name: str) -> list[str]:
    """The files that CONTRIBUTING.md names for adding one thing."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return re.findall(r"`([\w/]+\.(?:py|md|json))`", line)


def insert(path: Path, before: str, text: str) -> None:
    """Puts a row before a line that must be there."""
    content = path.read_text("utf-8")
    assert before in content
    path.write_text(content.replace(before, text + before, 1), "utf-8")


def test_a_loss_a_data_set_and_a_strategy_in_two_files_each(tmp_path: Path) -> None:
    """A file of its own and one row; tests and documentation besides."""
    package = tmp_path / "rolewise"
    shutil.copytree(Path(rolewise.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = {path: path.read_bytes() for path in package.rglob("*.py")}
    (package / "kd" / "logit_gap.py").write_text(f'"""A dummy."""\n{LOSS}')
    insert(package / "kd" / "__init__.py", '    "dml": (', '    "logit-gap": ("logit_gap", "LogitGap"),\n')
    (package / "data" / "dots.py").write_text(f'"""A dummy."""\n{DATA}')
    known = 'DataSet(title="Dots", about="a dummy", loader="rolewise.data.dots:load_dots")'
    insert(package / "data" / "__init__.py", '    "cifar10": DataSet(', f'    "dots": {known},\n')
    (package / "population" / "best_only.py").write_text(f'"""A dummy."""\n{STRATEGY}')
    methods = package / "population" / "methods.py"
    insert(methods, "        PBA,\n", "        BestOnly,\n")
    insert(methods, "from rolewise.population.pba", "from rolewise.population.best_only import BestOnly\n")
    changed = [path for path in package.rglob("*.py") if before.get(path) != path.read_bytes()]
    assert len(changed) == 6
    assert {"src/rolewise/kd/NAME.py", "kd/__init__.py"} <= set(row("distillation loss"))
    assert {"data/NAME.py", "data/__init__.py"} <= set(row("data set"))
    assert {"population/NAME.py", "population/methods.py"} <= set(row("search strategy"))
    (tmp_path / "use.py").write_text(USE)
    run = subprocess.run(
        [sys.executable, "use.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert '"logit-gap"' in (tmp_path / "run" / "results.json").read_text("utf-8")
