"""What CONTRIBUTING.md promises: one of each thing is added in so many files, and then works."""

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

NETWORK = '''
from functools import partial

from torch import nn

from rolewise._types import Logits
from rolewise.networks.base import Maps, Network, make


class TwoLayer(Network):
    """Two convolutions."""

    taps = ("relu1", "relu2")
    act_points = ("relu1",)

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x: Maps) -> Logits:
        return self.logits(self.relu2(self.conv2(self.relu1(self.conv1(x)))))


def two_layer(num_classes: int = 10, *, seed: int = 0) -> Network:
    """Two convolutions, for a test."""
    return make("two-layer", partial(TwoLayer, num_classes), num_classes, seed)
'''

QUANTIZER = '''
from rolewise.quant.dorefa import DoReFaActivations, DoReFaWeights


class CoarseWeights(DoReFaWeights):
    """DoReFa's of half the bits."""

    def quantize(self, layer, weight, bits):
        return super().quantize(layer, weight, bits // 2)

    def grid(self, layer, weight, bits):
        return super().grid(layer, weight, bits // 2)


class CoarseActivations(DoReFaActivations):
    """As DoReFa's."""
'''

TABLE = """
def _table5() -> list[Cell]:
    return [Cell("table5", "A row", "A column", distilled("cifar100", "resnet18", 4, "dkd", "a_s"), 70.0)]


"""

USE = """
import numpy as np

import rolewise as rw
from rolewise.augment import apply_op
from rolewise.cli import main

SMALL = ["search.population=4", "search.epochs=2", "search.interval=1", "search.batch_size=32", "data.search_train=64",
         "data.search_validation=32", "teacher.train.epochs=1", "student.train.epochs=1", "machine.workers=1",
         "machine.threads=1", "search.method=best-only", "student.quantizer=coarse"]

if __name__ == "__main__":
    for kind in ("losses", "operations", "quantizers", "networks", "data", "methods"):
        assert main(["list", kind]) == 0
    images = np.full((1, 4, 4, 4), 77, np.uint8)
    assert (apply_op("Darken", images, np.zeros(1, np.int64))[..., :3] == 38).all()
    assert main(["reproduce", "table5", "--smoke", "--dry-run", "--out", "reproduced"]) == 0
    names = ["--kd", "logit-gap", "--data", "dots", "--network", "two-layer", "--preset", "demo"]
    options = [text for setting in SMALL for text in ("--set", setting)]
    raise SystemExit(main(["run", "--quiet", "--no-speed", "--out", "run", *names, *options]))
"""


def row(name: str) -> list[str]:
    """The files that CONTRIBUTING.md names for adding one thing."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return re.findall(r"`([\w/.]+\.(?:py|md|json))`", line)


def insert(path: Path, before: str, text: str) -> None:
    """Puts a row before a line that must be there."""
    content = path.read_text("utf-8")
    assert before in content
    path.write_text(content.replace(before, text + before, 1), "utf-8")


# Thing of the table -> new file of the package, its text, and rows: (file, line that they stand before, row).
ADDED = {
    "distillation loss": (
        "kd/logit_gap.py", LOSS,
        (("kd/__init__.py", '    "dml": (', '    "logit-gap": ("logit_gap", "LogitGap"),\n'),),
    ),
    "operation": (
        None, "",
        (
            ("augment/kernels.py", "# How ops are chosen", "DARKEN = 12\n"),
            (
                "augment/kernels.py",
                "    else:\n        for base in range(0, 3 * size, size):\n            equalizing",
                "    elif kind == DARKEN:\n        for i in range(3 * size):\n            a[U(i)] = a[U(i)] >> 1\n",
            ),
            (
                "augment/ops.py", '    Op("FlipLR"',
                '    Op("Darken", "", None, False, _recolor(kernels.DARKEN), "v >> 1"),\n',
            ),
            ("augment/reference.py", '    "FlipLR"', '    "Darken": through_rgb(lambda rgb, _: rgb >> 1),\n'),
            ("augment/schedule.schema.json", '         "FlipLR"', '         "Darken",\n'),
        ),
    ),
    "quantizer": (
        "quant/coarse.py", QUANTIZER,
        (
            (
                "quant/method.py", '        Method("lsq"',
                '        Method("coarse", CoarseWeights(), CoarseActivations(), "a dummy"),\n',
            ),
            (
                "quant/method.py", "from rolewise.quant.dorefa",
                "from rolewise.quant.coarse import CoarseActivations, CoarseWeights\n",
            ),
        ),
    ),
    "network": (
        "networks/two_layer.py", NETWORK,
        (
            ("networks/__init__.py", '    "cnn-tiny": cnn', '    "two-layer": two_layer,\n'),
            (
                "networks/__init__.py", "from rolewise.networks.vgg",
                "from rolewise.networks.two_layer import two_layer\n",
            ),
        ),
    ),
    "data set": (
        "data/dots.py", DATA,
        (
            (
                "data/__init__.py", '    "cifar10": DataSet(',
                '    "dots": DataSet(title="Dots", about="a dummy", loader="rolewise.data.dots:load_dots"),\n',
            ),
        ),
    ),
    "search strategy": (
        "population/best_only.py", STRATEGY,
        (
            ("population/methods.py", "    PBA,\n", "    BestOnly,\n"),
            (
                "population/methods.py", "from rolewise.population.controls",
                "from rolewise.population.best_only import BestOnly\n",
            ),
        ),
    ),
    "table of experiments": (
        None, "",
        (
            ("experiments/tables.py", "# Figure 3: schedules", TABLE.lstrip("\n")),
            ("experiments/tables.py", '    "table4": tuple(', '    "table5": tuple(_table5()),\n'),
            ("experiments/tables.py", '    "figure3": "Figure', '    "table5": "Table 5: a dummy",\n'),
        ),
    ),
}  # fmt: skip


def add(package: Path, thing: str) -> None:
    """Adds one thing, and checks that the row of CONTRIBUTING.md names the files that this took."""
    new, text, rows = ADDED[thing]
    before = {path: path.read_bytes() for path in package.rglob("*.*")}
    if new is not None:
        (package / new).write_text(f'"""A dummy."""\n{text}')
    for name, line, inserted in rows:
        insert(package / name, line, inserted)
    changed = {path for path in package.rglob("*.*") if before.get(path) != path.read_bytes()}
    found = {path.relative_to(package).as_posix() for path in changed}
    folder = next(iter(found)).partition("/")[0]
    named = [
        name.removeprefix("src/rolewise/")
        for name in row(thing)
        if not name.startswith(("tests/", "docs/", "README"))
    ]
    stem = "" if new is None else Path(new).stem
    promised = {(name if "/" in name else f"{folder}/{name}").replace("NAME", stem) for name in named}
    assert found == promised - {_CLAIMS}, thing


_CLAIMS = "experiments/sentences.py"  # of a table that decides any


def test_one_of_each_in_the_files_that_are_named(tmp_path: Path) -> None:
    """A file of its own and a row; tests and documentation besides."""
    package = tmp_path / "rolewise"
    shutil.copytree(Path(rolewise.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for thing in ADDED:
        add(package, thing)
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
    for name in ("logit-gap", "Darken", "coarse", "two-layer", "dots", "best-only"):
        assert len([line for line in run.stdout.splitlines() if line.startswith(f"{name} ")]) == 1, name
    results = (tmp_path / "run" / "results.json").read_text("utf-8")
    assert all(f'"{name}"' in results for name in ("logit-gap", "two-layer"))
    assert '"coarse"' in (tmp_path / "run" / "student.json").read_text("utf-8")
