"""A small run of the command from its first line to its report; the made-up runs of the other tests have its form."""

import json
from pathlib import Path

import pytest
from synthetic_run import SMALL, make_run
from test_report_page import page_of

from rolewise.cli import main
from rolewise.report import write_markdown
from rolewise.report.load import load

SETTINGS = {
    "data.train_images": 80,
    "data.test_images": 60,
    "data.search_train": 32,
    "data.search_validation": 20,
    "search.population": 4,
    "search.epochs": 2,
    "search.interval": 1,
    "search.batch_size": 16,
    "teacher.schedule": "trivialaugment",
    "teacher.train.epochs": 2,
    "teacher.train.batch_size": 16,
    "student.train.epochs": 2,
    "student.train.batch_size": 16,
    "student.train.ema_decay": 0.9,
    "kd.prepare_epochs": 1,
    "machine.workers": 1,
    "baselines": "teacher-plain,student-plain",
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run directory, and what the command printed."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch, (folder / "out.txt").open("w", encoding="utf-8") as out:
        patch.setattr("sys.stdout", out)
        arguments = [one for key, value in SETTINGS.items() for one in ("--set", f"{key}={value}")]
        assert main(["run", "--quiet", "--out", str(folder / "run"), *arguments]) == 0
    return folder / "run", (folder / "out.txt").read_text("utf-8")


def test_the_rows_say_what_was_done(real: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = real
    run, page = load(path), page_of(path, tmp_path)
    assert (run.missing(), run.faults) == ([], [])
    names = ["Teacher cnn-tiny", "Student cnn-tiny"] * 2
    shown = [[cell.strip() for cell in row] for row in page.cells if len(row) == 6]
    shown = shown[: 1 + len(names)]  # the table of costs has as many columns
    assert [row[0] for row in shown[1:]] == names
    assert [row[2] for row in shown[1:]] == ["none", "II-KD", "none", "none"]
    assert [row[3] for row in shown[1:]] == ["trivialaugment", shown[2][3], "none", "none"]
    assert shown[2][3] in ("AS", "AS, no operation")
    student = run.row("student")
    assert student is not None
    averaged = f"averaged weights: {100 * student['accuracy_averaged']:.2f} %"
    assert shown[2][4] == f"{100 * student['accuracy']:.2f} %{averaged}"
    assert f"{100 * student['accuracy']:.2f} % test accuracy under its own schedule" in page.visible
    assert "not complete" not in page.visible
    assert averaged.removeprefix("averaged weights: ") in write_markdown(path, tmp_path / "r.md").read_text(
        "utf-8"
    )


def test_size_and_speed(real: tuple[Path, str], tmp_path: Path) -> None:
    path, printed = real
    found = json.loads((path / "inference.json").read_text())["measured"]
    assert found["files"]["low-bit"]["safetensors_bytes"] < found["files"]["float32"]["safetensors_bytes"] / 3
    assert set(found["turns"]) == {"1", "64"}
    assert min(found["turns"].values()) >= 10
    page = page_of(path, tmp_path)
    cells = {row[0].strip(): row for row in page.cells if len(row) == 7}
    assert cells["OpenVINO low-bit"][1].endswith("% in 8-bit integers")
    assert cells["onnxruntime float32"][4] == "1.0×"
    assert f"{found['files']['low-bit']['safetensors_bytes']:,} bytes" in page.visible
    assert "averaged weights" in printed
    assert f"report: {path / 'report.html'}" in printed


def test_made_up_runs_have_the_form_of_real_ones(real: tuple[Path, str], tmp_path: Path) -> None:
    def results(folder: Path) -> dict[str, list[dict[str, object]]]:
        found: dict[str, list[dict[str, object]]] = json.loads((folder / "results.json").read_text())
        return found

    made = results(make_run(tmp_path / "made", until="teacher", **SMALL))  # type: ignore[arg-type]
    true = results(real[0])
    assert set(made) == set(true)
    for part in ("rows", "costs"):
        mine, theirs = set(made[part][0]), set(true[part][0])
        assert mine - theirs == set()
        assert theirs - mine <= {"finished"}
