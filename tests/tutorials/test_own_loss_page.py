"""The page on your own loss: all blocks run, the run is complete, and the loss is what the page says."""

import json

import torch
from blocks import run_tutorial

from rolewise.trainer import torch_threads


def test_your_own_loss(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    quick = " --no-baselines --no-speed --set search.population=4 --set machine.workers=1 --set data.search_train=128"
    changes = {"--set student.train.epochs=2\n": f"--set student.train.epochs=2{quick}\n"}
    with torch_threads(1):
        printed, names = run_tutorial("own-loss", changes, lambda: capsys.readouterr().out)
    assert len(printed) == 1
    assert (tmp_path / "direction" / "report.html").is_file()
    rows = json.loads((tmp_path / "direction" / "results.json").read_text())["rows"]
    assert all(row["kd"].endswith("my_loss.py:Direction") for row in rows if row["role"] == "student")
    assert 0.01 < float(names["ratio"].detach()) < 100
    # The value from its definition, in float64 and loops.
    student, teacher = names["seen"]
    weight, bias = (
        one.detach().double() for one in (names["loss"].project.weight, names["loss"].project.bias)
    )
    total = 0.0
    for mine, target in zip(student.features[-1].double(), teacher.features[-1].double(), strict=True):
        projected, meant = weight @ mine.mean((1, 2)) + bias, target.mean((1, 2))
        total += 1 - float((projected @ meant / (projected.norm() * meant.norm())).detach())
    assert abs(total / 8 - float(names["value"].detach())) < 1e-5
