"""`rolewise export`, in-process, on its output and its files."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from rolewise.cli import main
from rolewise.data import load_data
from rolewise.networks import build
from rolewise.pretrained import (
    NetworkInfo,
    Preprocessing,
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
    quick = partial(cost_report, batches=(1,), seconds=0.02, rounds=2)
    monkeypatch.setattr("rolewise.pretrained.cost_report", quick)
    assert main(["export", str(run), "--report"]) == 0
    assert "2-bit weights x 2-bit activations" in capsys.readouterr().out
    assert main(["export", str(run), "--report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"]["low-bit"]["onnx_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}"], "Give a file or folder to write, or `--report`."),
        (["{run}/absent", "x.onnx"], "There is no file or folder"),
        (["{run}", "x.tflite"], '`path` must end in ".safetensors", ".onnx" or ".xml"'),
        (["{run}", "x.onnx", "--role", "pupil"], '`--role` must be student or teacher, got "pupil".'),
        (["{run}", "x.onnx", "--opset", "11"], "`opset` must be at least 21"),
        (["{empty}", "x.onnx"], "is neither a run directory"),
        (["{run}/a.onnx", "x.onnx"], "is an export already; give the .safetensors file that it came from."),
        (["{run}/teacher.safetensors", "hub", "--packed"], "`packed` needs a network with quantized weights"),
        (["{run}", "{run}/student.safetensors"], "student.safetensors is the source itself"),
        (["{run}/student", "{run}/student"], "student is the source itself"),
        (["{run}", "sub/dir/x.onnx"], "There is no folder sub/dir. Make it first."),
        (["{run}", "x.onnx", "--image-size", "999999"], "`--image-size` must be 1 to 4096, got 999999."),
        (["{run}", "--report", "--threads", "0"], "`--threads` must be at least 1, got 0."),
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


INFO = NetworkInfo(
    preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=(24, 24)),
    classes=("a", "b", *"cdefghij"),
    data="digits",
)


def test_the_networks_own_image_size(tmp_path: Path):
    file = save_network(quantize(build("cnn-tiny"), 4, 4), tmp_path / "student", info=INFO)
    targets = [tmp_path / "net.onnx", tmp_path / "net.xml", tmp_path / "hub"]
    assert main(["export", str(file), *map(str, targets)]) == 0
    for target in targets:
        assert NetworkInfo.from_json(describe(target)["info"]) == INFO
    assert describe(targets[0])["image_size"] == describe(targets[1])["image_size"] == [24, 24]
    assert main(["export", str(file), str(targets[0]), "--image-size", "40"]) == 0
    assert describe(targets[0])["preprocessing"]["size"] == [40, 40]


def test_layers_in_float_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = save_network(quantize(build("cnn-tiny"), 8, 8), tmp_path / "student", info=INFO)
    assert main(["export", str(file), str(tmp_path / "net.xml")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'net.xml'}\n"
    assert captured.err.startswith(
        f"rolewise: warning: {tmp_path / 'net.xml'}: 8 quantized layers are not executed in 8-bit integers here: layer1"
    )


def test_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = save_network(quantize(build("cnn-tiny"), 4, 4), tmp_path / "student", info=INFO)
    picture = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), (200, 10, 90)).save(picture)
    assert main(["predict", str(file), str(picture), str(picture), "--top", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert re.fullmatch(rf"{re.escape(str(picture))}: [a-j] [\d.]+ %, [a-j] [\d.]+ %", first)
    assert main(["predict", str(file), str(picture), "--json"]) == 0
    shares = json.loads(capsys.readouterr().out)["probabilities"]
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == set(INFO.classes)
    assert main(["predict", str(file), str(tmp_path / "absent.png")]) == 2
    assert "Cannot read" in capsys.readouterr().err
    assert main(["predict", str(file), str(picture), "--top", "0"]) == 2


def test_eval_of_an_openvino_file_and_of_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = load_data("digits")
    steps = Preprocessing(tuple(data.train.mean), tuple(data.train.std), (32, 32))
    info = NetworkInfo(preprocessing=steps, classes=tuple(data.classes), data="digits")
    file = save_network(quantize(build("cnn-tiny"), 4, 4), tmp_path / "student", info=info)
    assert main(["export", str(file), str(tmp_path / "net.xml"), str(tmp_path / "small.onnx")]) == 0
    capsys.readouterr()
    found = []
    for path in (file, tmp_path / "net.xml"):
        assert main(["eval", str(path), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["n"] == found[1]["n"] == 360
    assert found[0]["accuracy"] == pytest.approx(found[1]["accuracy"], abs=0.01)
    assert main(["export", str(file), str(tmp_path / "small.onnx"), "--image-size", "16"]) == 0
    assert main(["eval", str(tmp_path / "small.onnx")]) == 2
    assert "takes images of 16x16 pixels and those of digits have 32x32" in capsys.readouterr().err
    three = save_network(build("cnn-tiny", num_classes=3), tmp_path / "three", extra={"data": "digits"})
    assert main(["eval", str(three)]) == 2
    assert "knows 3 classes and digits has 10" in capsys.readouterr().err
    other = save_network(
        build("cnn-tiny"), tmp_path / "other", info=replace(info, classes=tuple("abcdefghij"))
    )
    assert main(["eval", str(other)]) == 2
    assert 'class 0 is "a" in the file and "0" in the data' in capsys.readouterr().err
