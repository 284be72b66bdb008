"""Commands that write a file refuse those that a run directory needs, before any work."""

import json
from pathlib import Path

import pytest

from rolewise import Schedule
from rolewise.cli import main
from rolewise.errors import InputError
from rolewise.runs import RunDirectory, check_output


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory with files of every kind, and beside it a schedule."""
    monkeypatch.chdir(tmp_path)
    RunDirectory.create(Path("a"), {}).close()
    Schedule.random(3, seed=0).save("mine.json")
    Schedule.random(3, seed=1).save("a/A_T.json")
    Path("a/baselines").mkdir()
    for name in ("student", "baselines/student-kd", "mine"):
        Path(f"a/{name}.safetensors").write_bytes(b"tensors")
        Path(f"a/{name}.json").write_text("{}")
    return Path("a")


OWN = (
    *(
        "config.json",
        "metrics.jsonl",
        "lineage.jsonl",
        "stages.json",
        "results.json",
        "inference.json",
        "lock",
    ),
    *("A_T.json", "A_S.json", "kd.safetensors", "student.json", "student.safetensors", "mine.json"),
    *(
        "baselines",
        "baselines/student-kd.json",
        "checkpoints/x.png",
        "tests/student.safetensors",
        "code/own.json",
    ),
)
FREE = ("report.html", "report.md", "plot.svg", "student.onnx", "other.json", "tests.html", "figures/a.png")


def test_what_belongs_to_a_run(run: Path) -> None:
    for name in OWN:
        with pytest.raises(InputError, match=r"belongs to the run .*/a\. Choose another name"):
            check_output(run / name)
    for name in FREE:
        check_output(run / name)
    check_output("mine.json")  # beside it
    with pytest.raises(InputError, match="belongs to the run"):
        check_output(Path("b/../a/results.json"))


@pytest.mark.parametrize(
    "command",
    [
        "report a --out a/A_T.json",
        "report a --markdown --out a/results.json",
        "export a/student.safetensors a/baselines",
        "schedule convert mine.json a/config.json",
        "schedule convert mine.json a/student.json",
        "schedule plot mine.json --out a/checkpoints/a.svg",
        "schedule show mine.json --plot a/baselines/a.svg",
        "schedule preview mine.json --out a/A_S.json",
    ],
)
def test_nothing_of_a_run_is_replaced(run: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(command.split()) == 2
    assert "belongs to the run" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_other_files_may_lie_in_a_run(run: Path) -> None:
    assert main(["schedule", "convert", "mine.json", "a/other.json"]) == 0
    assert json.loads(Path("a/other.json").read_text())["epochs"] == 3
    assert main(["schedule", "convert", "mine.json", "a/other.json", "--stretch", "5"]) == 0
    assert json.loads(Path("a/other.json").read_text())["epochs"] == 5
