"""Size and speed in the report: what is measured, what is said of it, and what is said where nothing was."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from test_report_page import page_of

from rolewise.cli import main
from rolewise.networks import build
from rolewise.pretrained import NetworkInfo, Preprocessing, save_network
from rolewise.quant import quantize
from rolewise.report import write_markdown
from rolewise.report.inference import is_measured, measure, notes, rows, sentence

# Made up, so that every figure of the table can be computed by hand.
FOUND: dict[str, Any] = {
    "image_size": [32, 32],
    "files": {
        "float32": {"safetensors_bytes": 80_000, "onnx_bytes": 90_000, "openvino_bytes": 120_000},
        "low-bit": {"safetensors_bytes": 10_000, "onnx_bytes": 20_000, "openvino_bytes": 50_000},
    },
    "latency_ms": {
        "PyTorch float32": {"1": 8.0, "64": 123.4},
        "onnxruntime float32": {"1": 4.0, "64": 90.0},
        "OpenVINO float32": {"1": 2.0, "64": 45.0},
        "onnxruntime low-bit": {"1": 5.0, "64": 100.0},
        "OpenVINO low-bit": {"1": 0.5, "64": 12.0},
    },
    "turns": {"1": 31, "64": 10},
    "clock": "process_time",
    "executed": {"int8_macs": 75, "float_macs": 25, "float_layers": []},
    "threads": 1,
    "versions": {"onnxruntime": "1.2.3", "openvino": "4.5.6"},
    "features": ["avx2", "avx512_vnni"],
    "hardware": {"cpu": "A processor"},
}


INFO = NetworkInfo(Preprocessing((0.5,) * 3, (0.25,) * 3, (32, 32)))


def student(folder: Path, seed: int = 0) -> None:
    save_network(quantize(build("cnn-tiny", seed=seed), 2, 2), folder / "student", info=INFO)


@pytest.fixture
def run(made: dict[str, Path], tmp_path: Path) -> Path:
    """A run with a student's row and its file."""
    folder = shutil.copytree(made["train-alone"], tmp_path / "run")
    student(folder)
    return folder


def record(folder: Path, **changes: Any) -> None:
    sha = hashlib.sha256((folder / "student.safetensors").read_bytes()).hexdigest()
    found = {"format": "rolewise.inference", "format_version": 1, "student_sha256": sha, "measured": FOUND}
    (folder / "inference.json").write_text(json.dumps({**found, **changes}))


def test_the_figures() -> None:
    table = {row["name"]: row for row in rows(FOUND)}
    assert list(table) == list(FOUND["latency_ms"])
    low = table["OpenVINO low-bit"]
    assert (low["bytes"], low["times"], low["speeds"]) == (
        "50,000",
        ["0.500 ms", "12.0 ms"],
        ["8.0×", "7.5×"],
    )
    assert low["arithmetic"] == "75 % in 8-bit integers"
    assert table["PyTorch float32"]["bytes"] == "80,000"
    assert table["PyTorch float32"]["times"] == ["8.00 ms", "123 ms"]
    assert table["PyTorch float32"]["speeds"] == ["0.50×", "0.73×"]
    assert table["onnxruntime low-bit"]["arithmetic"] == "float32, weights decoded"
    assert sentence(FOUND) == (
        "Packed, the student takes 10,000 bytes instead of 80,000 in float32 (8.0 times smaller), and one image takes "
        "0.500 ms with OpenVINO on A processor: 8.0× the speed of its float32 form in onnxruntime."
    )
    assert notes(FOUND)[0] == (
        "Median processor time of alternating turns (31 for batch 1, 10 for batch 64) with 1 thread on A processor "
        "with avx2, avx512_vnni; images of 32x32 pixels; onnxruntime 1.2.3, openvino 4.5.6. Speeds are relative to "
        "onnxruntime in float32."
    )
    assert not any(
        "cost of the call" in note for note in notes(FOUND)
    )  # 12 / 64 against 0.5: more than a quarter
    quick = {**FOUND, "latency_ms": {**FOUND["latency_ms"], "OpenVINO low-bit": {"1": 0.5, "64": 3.2}}}
    assert (
        "With OpenVINO low-bit an image takes 0.050 ms in a batch of 64 and 0.500 ms in a batch of 1: most of the "
        "latter is the cost of the call, which fewer bits do not lower."
    ) in notes(quick)
    layers = [{"name": f"layer{number}", "reason": "why"} for number in range(7)]
    slow = {**FOUND, "executed": {**FOUND["executed"], "float_layers": layers}}
    assert "layer4 (why), and 2 more." in notes(slow)[-1]


def test_a_float_student_and_a_machine_without_openvino() -> None:
    times = {name: ms for name, ms in FOUND["latency_ms"].items() if not name.endswith("low-bit")}
    plain = {**FOUND, "files": {"float32": FOUND["files"]["float32"]}, "latency_ms": times}
    assert sentence(plain) == (
        "The student is in float32: 80,000 bytes, and one image takes 2.00 ms with OpenVINO in float32 on A processor."
    )
    kept = {name: ms for name, ms in FOUND["latency_ms"].items() if not name.startswith("OpenVINO")}
    lacking = {**FOUND, "latency_ms": kept, "executed": None}
    assert "5.00 ms with onnxruntime on A processor: 0.80× the speed" in sentence(lacking)
    assert notes(lacking)[-1].endswith('is not installed: pip install "rolewise[openvino]".')


def test_the_section(run: Path, tmp_path: Path) -> None:
    assert (
        "Size and speed of the student Not measured. `rolewise report RUN --speed`"
        in page_of(run, tmp_path).visible
    )
    record(run)
    page = page_of(run, tmp_path)
    cells = ["OpenVINO low-bit", "75 % in 8-bit integers", "50,000", "0.500 ms", "8.0×", "12.0 ms", "7.5×"]
    assert cells in page.cells
    assert sentence(FOUND) in page.visible
    text = write_markdown(run, tmp_path / "r.md").read_text("utf-8")
    assert f"| {' | '.join(cells)} |" in text
    assert is_measured(run)

    student(run, seed=4)
    assert not is_measured(run)
    page = page_of(run, tmp_path)
    assert "Measured for another network than this student." in page.visible
    assert "0.500 ms" not in page.visible


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"measured": None, "reason": 'needs <b>x</b>: pip install "rolewise[export]".'},
            "Not measured: needs <b>x",
        ),
        ({"measured": {**FOUND, "threads": 0}}, "measured.threads"),
        (
            {"measured": {**FOUND, "files": {"low-bit": {}}}},
            "of another type (KeyError: 'safetensors_bytes')",
        ),
        ({"measured": {**FOUND, "executed": {"int8_macs": 1}}}, "of another type (KeyError: 'float_macs')"),
        (
            {"measured": {**FOUND, "latency_ms": {"onnxruntime float32": {"1": 4.0}}}},
            "is missing or of another type (StopIteration: )",
        ),
        (
            {"measured": {**FOUND, "latency_ms": FOUND["latency_ms"] | {"PyTorch float32": {"2": 1.0}}}},
            "is missing or of another type (KeyError: '2')",
        ),
        ({"measured": {**FOUND, "latency_ms": {}}}, 'measured.latency_ms holds no "onnxruntime float32"'),
    ],
)
def test_records_without_figures(run: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    record(run, **changes)
    page = page_of(run, tmp_path)
    assert words in page.visible
    assert not is_measured(run)


def test_a_run_without_a_student_has_no_section(tiny: Path, tmp_path: Path) -> None:
    assert "Size and speed" not in page_of(tiny, tmp_path).visible


def test_measuring(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = quantize(build("cnn-tiny"), 2, 2)
    quick: dict[str, Any] = {"image_size": (32, 32), "batches": (1,), "seconds": 0.0, "rounds": 2}
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = json.loads(measure(run, model, **quick).read_text())["measured"]
    assert is_measured(run)
    assert found["clock"] == "process_time"
    assert found["turns"] == {"1": 2}
    assert found["files"]["low-bit"]["safetensors_bytes"] < found["files"]["float32"]["safetensors_bytes"] / 3
    assert 0 < found["latency_ms"]["onnxruntime low-bit"]["1"] < 1000
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = json.loads(measure(run, model, **quick).read_text())
    assert "measured" not in said
    assert re.search(r"needs onnx.*not installed: pip install .*\[export\]", said["reason"])


def test_a_runtime_that_fails_is_said_to_have_failed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such instruction\nin kernel 3")

    monkeypatch.setattr("rolewise.pretrained.cost_report", fail)
    said = json.loads(measure(run, build("cnn-tiny"), image_size=(32, 32)).read_text())
    assert said["reason"] == "a runtime failed, RuntimeError: no such instruction"


def test_the_command_measures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "rolewise.pretrained.cost_report", lambda *_, **options: {**FOUND, "asked": str(options)}
    )
    assert main(["report", str(run), "--out", str(tmp_path / "r.html")]) == 0
    assert not (run / "inference.json").exists()
    assert main(["report", str(run), "--speed", "--out", str(tmp_path / "r.html")]) == 0
    assert is_measured(run)
    assert "0.500 ms" in (tmp_path / "r.html").read_text("utf-8")
    assert main(["report", str(run), "--speed", "--tensorboard", str(tmp_path / "events")]) == 2
    assert "leave `--markdown`, `--out` and `--speed` out" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--speed"]) == 2
    assert "is not a run directory" in capsys.readouterr().err
