"""The tutorial of one cell of the paper's tables: its commands run, at tiny settings and with a tiny network."""

import json
from pathlib import Path

from blocks import run_tutorial

SMALL = "--seeds 1 --smoke --set teacher.network=cnn-tiny --set machine.threads=1"


def test_one_cell_with_controls(tmp_path, monkeypatch, capsys, cifar10_root, cifar100_root):
    root = tmp_path / "data"
    root.mkdir()
    for source in (cifar10_root / "cifar-10-batches-py", cifar100_root / "cifar-100-python"):
        (root / source.name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    changes = {"~/data": str(root), "--seeds 3": SMALL, "random,shuffled,trivialaugment": "trivialaugment"}
    printed, _ = run_tutorial("one-cell", changes, lambda: "".join(capsys.readouterr()))
    check, plan, cell, report = (text for _, text in printed)
    assert "100 classes" in check
    assert "3 cells: 2 searches and 4 trainings (smoke)" in plan
    assert "6 pieces of work done" in cell.splitlines()
    assert report.strip().endswith("report.html")
    found = json.loads(Path("cell/results.json").read_text())["cells"]
    assert len(found) == 3
    assert "| no schedule | 1 |" in Path("cell/README.md").read_text()
