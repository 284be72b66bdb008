"""The tutorial from an own network and its `.pth` to a 4-bit file: one accuracy in table, files and ONNX."""

import json
import re
from pathlib import Path

import pytest
from blocks import run_tutorial

from rolewise.cli import main

QUICK = (
    "--set student.train.epochs=3 --set student.train.batch_size=25 --set data.search_train=40 "
    "--set data.search_validation=40 --set search.population=4 --set search.epochs=2 --set search.batch_size=20 "
    "--no-baselines --workers 1 --kd at --set machine.threads=1"
)


def test_from_a_pth_to_a_low_bit_file(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    changes = {"--out pair": f"--out pair {QUICK}"}
    printed, _ = run_tutorial("own-pair", changes, lambda: "".join(capsys.readouterr()))
    rows = json.loads(Path("pair/results.json").read_text())["rows"]
    table = {row["role"]: f"{100 * row['accuracy']:.2f} %" for row in rows}
    assert rows[0]["accuracy"] > 0.5  # the weights arrived
    assert "self.act_points = ['relu', 'layer1.relu', 'layer2.relu']" in printed[0][1]
    found = re.findall(r"^(\S+): accuracy ([\d.]+ %)", "".join(text for _, text in printed), re.MULTILINE)
    assert found == [
        ("pair/teacher.safetensors", table["teacher"]),
        ("pair/student.safetensors", table["student"]),
        ("packed.safetensors", table["student"]),
        ("student.onnx", table["student"]),
    ]
    assert json.loads(Path("pair/teacher.json").read_text())["extra"]["weights"]["file"] == "teacher.pth"
    check_resuming(capsys)


def check_resuming(capsys):
    """What is said of the network's file when a run is used again."""
    before = Path("pair/results.json").read_bytes()
    assert main(["run", "--resume", "pair", "-q"]) == 0
    assert Path("pair/results.json").read_bytes() == before
    text = Path("mynet.py").read_text()
    Path("mynet.py").write_text(text + "# changed\n")
    for command in (["run", "--resume", "pair", "-q"], ["eval", "pair"], ["export", "pair", "again.onnx"]):
        capsys.readouterr()
        assert main(command) == 2
        assert re.search(
            r"mynet.py has changed since pair was started. Look at it, and name", capsys.readouterr().err
        )
    assert main(["eval", "pair", "--network", "mynet.py:ResNet"]) == 0
    Path("mynet.py").rename("moved.py")
    Path("moved.py").write_text(text)
    capsys.readouterr()
    assert main(["run", "--resume", "pair", "-q"]) == 2
    assert "A copy of what the run used is pair/code/mynet-" in capsys.readouterr().err
    assert (
        main(["run", "--resume", "pair", "-q", "--network", "moved.py:ResNet"]) == 0
    )  # the same code elsewhere
    inside = next(Path("pair/code").glob("mynet-*.py"))
    settings = json.loads(Path("pair/config.json").read_text())
    settings["config"]["teacher"]["network"] = f"{inside.resolve()}:ResNet"
    Path("pair/config.json").write_text(json.dumps(settings))
    capsys.readouterr()
    assert main(["eval", "pair"]) == 2
    assert "lies within the run directory, so it came with it" in capsys.readouterr().err
