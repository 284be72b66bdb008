"""`rolewise export`, in-process, on its output and its files."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from rolewise.cli import main
from rolewise.networks import build
from rolewise.pretrained import (
    cost_report,
    describe,
    load_network,
    onnx_network,
    save_network,
    save_pretrained,
)
from rolewise.quant import quantize


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with its two networks."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_network(build("cnn-tiny"), folder / "teacher", extra={"data": "digits"})
    save_network(
        quantize(build("cnn-tiny"), 2, 2), folder / "student", extra={"data": "digits", "accuracy": 0.5}
    )
    return folder


def test_all_forms_of_a_runs_student(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    targets = [tmp_path / name for name in ("out.safetensors", "out.onnx", "folder")]
    assert main(["export", str(run), *map(str, targets)]) == 0
    assert capsys.readouterr().out == "".join(f"{target}\n" for target in targets)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_network(run / "student.safetensors")(images)
        assert torch.equal(load_network(targets[0])(images), expected)
        assert torch.equal(load_network(targets[2])(images), expected)
        torch.testing.assert_close(
            onnx_network(targets[1], threads=1)(images), expected, rtol=1e-4, atol=1e-4
        )
    for target in targets:
        assert describe(target)["extra"] == {"data": "digits", "accuracy": 0.5}
    assert describe(targets[0])["form"] == "packed"
    assert describe(targets[2])["form"] == "float"


def test_the_teacher_a_file_or_a_folder(run: Path, tmp_path: Path):
    assert main(["export", str(run), str(tmp_path / "t.onnx"), "--role", "teacher"]) == 0
    assert describe(tmp_path / "t.onnx")["quantization"] is None
    assert main(["export", str(run / "student.safetensors"), str(tmp_path / "hub"), "--packed"]) == 0
    assert describe(tmp_path / "hub")["form"] == "packed"
    assert (
        main(
            ["export", str(tmp_path / "hub"), str(tmp_path / "s.onnx"), "--opset", "21", "--image-size", "16"]
        )
        == 0
    )
    assert describe(tmp_path / "s.onnx")["image_size"] == [16, 16]


def test_the_report(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    quick = partial(cost_report, batches=(1,), seconds=0.02)
    monkeypatch.setattr("rolewise.pretrained.cost_report", quick)
    assert main(["export", str(run), "--report"]) == 0
    assert "2-bit weights x 2-bit activations" in capsys.readouterr().out
    assert main(["export", str(run), "--report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"]["quantized"]["onnx_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}"], "Give a file or folder to write, or `--report`."),
        (["{run}/absent", "x.onnx"], "There is no file or folder"),
        (["{run}", "x.tflite"], '`path` must end in ".safetensors" or ".onnx"'),
        (["{run}", "x.onnx", "--role", "pupil"], '`--role` must be student or teacher, got "pupil".'),
        (["{run}", "x.onnx", "--opset", "11"], "`opset` must be at least 21"),
        (["{empty}", "x.onnx"], "holds no student.safetensors: its training has not ended yet."),
        (["{run}/a.onnx", "x.onnx"], "is an export already; give the .safetensors file that it came from."),
        (["{run}/teacher.safetensors", "hub", "--packed"], "`packed` needs a network with quantized weights"),
    ],
)
def test_bad_input(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
):
    (tmp_path / "empty").mkdir()
    (run / "a.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    filled = [one.format(run=run, empty=tmp_path / "empty") for one in arguments]
    assert main(["export", *filled]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rolewise: error: ")
    assert message in captured.err


def test_a_saved_folder_needs_no_run(tmp_path: Path):
    folder = save_pretrained(build("cnn-tiny"), tmp_path / "hub")
    assert main(["export", str(folder), str(tmp_path / "copy.safetensors")]) == 0
    assert describe(tmp_path / "copy.safetensors")["form"] == "float"
