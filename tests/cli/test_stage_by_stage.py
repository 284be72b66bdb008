"""The pipeline stage by stage on one run directory, as a person would who stops to look; what the files then say."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import rolewise as rw
from rolewise.cli import main
from rolewise.quant import quantization
from rolewise.trainer import evaluate, teacher_settings, torch_threads

SETTINGS = """
data: {search_train: 128, search_validation: 128}
search: {population: 4, epochs: 5, interval: 1, batch_size: 64}
teacher: {train: {epochs: 3, batch_size: 64, lr: 0.1}}
student: {train: {epochs: 3, batch_size: 64}}
kd: {prepare_epochs: 1}
machine: {threads: 1, workers: 1}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A complete run, made by the five commands of the README."""
    folder = tmp_path_factory.mktemp("stages")
    (folder / "settings.yaml").write_text(SETTINGS)
    path = folder / "run"
    new = ["--out", str(path), "--config", str(folder / "settings.yaml"), "--seed", "1", "--quiet"]
    on = ["--resume", str(path), "--quiet"]
    assert main(["search", "--role", "teacher", *new]) == 0
    assert (path / "A_T.json").exists()
    assert not (path / "teacher.safetensors").exists()
    assert main(["train", "--role", "teacher", *on]) == 0
    assert main(["search", "--role", "student", *on]) == 0
    assert main(["train", "--role", "student", *on]) == 0
    assert main(["run", *on]) == 0  # the baselines and the report
    return path


def test_a_control_by_the_word_of_a_schedule(tmp_path):
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    out = tmp_path / "run"
    new = [
        "--out",
        str(out),
        "--config",
        str(tmp_path / "settings.yaml"),
        "--set",
        "data.name=digits",
        "--quiet",
    ]
    assert main(["search", "--role", "teacher", "--method", "trivialaugment-wide", *new]) == 0
    assert rw.Schedule.load(out / "A_T.json").segments == rw.Schedule.named("trivialaugment-wide", 5).segments


def lines(path: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def test_the_directory_is_complete(run):
    names = {path.name for path in run.iterdir()}
    networks = {f"{role}.{suffix}" for role in ("teacher", "student") for suffix in ("safetensors", "json")}
    logs = {"config.json", "metrics.jsonl", "lineage.jsonl", "results.json", "report.html"}
    assert names >= networks | logs | {"kd.safetensors", "A_T.json", "A_S.json", "checkpoints", "lock"}
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert [row["key"] for row in rows] == [
        "teacher", "student", "teacher-plain", "student-plain", "student-scratch", "student-kd", "student-a-t",
    ]  # fmt: skip
    assert [(row["weight_bits"], row["kd"], row["schedule"]) for row in rows] == [
        (32, None, "A_T"), (4, "ii-kd", "A_S"), (32, None, None), (4, None, None), (4, None, None), (4, "ii-kd", None),
        (4, "ii-kd", "A_T"),
    ]  # fmt: skip
    assert "<html" in (run / "report.html").read_text()


@pytest.mark.parametrize(("role", "file"), [("teacher", "A_T.json"), ("student", "A_S.json")])
def test_each_schedule_is_what_the_lineage_traces_for_the_best_member(run, role, file):
    """Traced here from the log's lines alone: from the last copy of the member back to the zeros of the start."""
    scores = {}
    for line in lines(run, "metrics.jsonl"):
        last = (line["role"], line["split"], line["epoch"]) == (role, "validation", 5)
        if last and line["member"] is not None:
            scores[line["member"]] = line["accuracy"]
    assert sorted(scores) == [0, 1, 2, 3]
    member = best = min(scores, key=lambda one: (-scores[one], one))
    exploits = [line for line in lines(run, "lineage.jsonl") if line["role"] == role]
    assert len(exploits) == 4  # one in each of four rounds
    end, expected = 5, []
    for exploit in reversed(exploits):
        if exploit["target"] == member and exploit["epoch"] < end:
            expected = [exploit["new"]] * (end - exploit["epoch"]) + expected
            end, member = exploit["epoch"], exploit["source"]
    expected = [[0] * 60] * end + expected
    schedule = rw.Schedule.load(run / file)
    assert [list(schedule[epoch].to_vector()) for epoch in range(5)] == expected
    search = json.loads((run / "results.json").read_text())["searches"][role]
    assert search["best"] == best
    assert search["overwritten"] == any(vector != [0] * 60 for vector in expected)
    report = " ".join((run / "report.html").read_text().split())
    if not search["overwritten"]:
        assert re.search("never overwritten", report)


def test_the_saved_networks_have_the_accuracy_of_the_table(run):
    data = rw.load_data("digits")
    place = teacher_settings(1, precision="fp32").placement()
    for row in json.loads((run / "results.json").read_text())["rows"]:
        made = row.get("same_as") or row["key"]
        folder = run / "baselines" if made not in ("teacher", "student") else run
        model = rw.load_network(folder / f"{made}.safetensors")
        with torch_threads(1):
            found = evaluate(
                place.place(model), data.test, mean=data.train.mean, std=data.train.std, placement=place
            )
        assert found.accuracy == row["accuracy"]
        assert found.n == row["n"]
        kept = load_file(run / "tests" / f"{row['key']}.safetensors")
        assert kept["logits"].shape == (360, 10)
        assert torch.equal(kept["labels"], data.test.labels)
        assert (kept["logits"].argmax(1) == kept["labels"]).double().mean().item() == row["accuracy"]
        assert row["precision"] in ("fp32", "bf16")


def test_the_student_is_quantized(run):
    model = rw.load_network(run / "student.safetensors")
    description = quantization(model)
    assert description is not None
    assert description["weight_bits"] == description["act_bits"] == 4
    first, last = "conv1", "fc"
    assert first not in description["weights"]
    assert last not in description["weights"]


def test_eval_reports_both_networks(run, capsys):
    assert main(["eval", str(run), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert [Path(one["file"]).name for one in found] == ["teacher.safetensors", "student.safetensors"]
    for one, row in zip(found, rows, strict=False):
        assert one["n"] == 360
        assert one["accuracy"] == pytest.approx(
            row["accuracy"], abs=1.5 / 360
        )  # other threads: other last bits


def test_settings_that_were_used_cannot_change_and_others_can(run, capsys):
    assert main(["run", "--resume", str(run), "--set", "teacher.train.lr=0.2", "--quiet"]) == 2
    assert "`teacher.train.lr` is 0.1" in " ".join(capsys.readouterr().err.split())
    assert main(["run", "--resume", str(run), "--workers", "2", "--quiet"]) == 0


def test_export_and_report_of_the_run(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "small.safetensors")]) == 0
    assert main(["report", str(run)]) == 0
    student = rw.load_network(run / "student.safetensors").eval()
    packed = rw.load_network(tmp_path / "small.safetensors").eval()
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(student(images), packed(images))


def test_a_teacher_from_elsewhere_and_an_own_loss(run, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from rolewise.kd import KDLoss\n\n\n"
        "class Mine(KDLoss):\n"
        "    def forward(self, student, teacher):\n"
        "        return (student.logits - teacher.logits).abs().mean()\n"
    )
    arguments = [
        "train", "--role", "student", "--out", str(tmp_path / "run"), "--teacher", str(run / "teacher.safetensors"),
        "--kd", f"{tmp_path / 'mine.py'}:Mine", "--schedule", "none", "--epochs", "2", "--quiet",
        "--set", "machine.threads=1", "--set", "student.train.batch_size=64",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "mine.py:Mine" in capsys.readouterr().out.replace("\n", "")
    kd = [line["kd"] for line in lines(tmp_path / "run", "metrics.jsonl") if "kd" in line]
    assert len(kd) == 2
    assert all(value > 0 for value in kd)


def test_dry_run_estimates_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    before = sorted(tmp_path.rglob("*"))
    assert main(["search", "--role", "teacher", "--config", "settings.yaml", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"about [\d.]+ (s|min)", shown), shown
    assert sorted(tmp_path.rglob("*")) == before
