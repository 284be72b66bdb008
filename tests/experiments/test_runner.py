"""A plan is worked through: shared, resumed, by several processes, with failures kept apart."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rolewise.data import Data
from rolewise.errors import InputError, Interrupted, RunError
from rolewise.experiments import runner
from rolewise.experiments.plan import plan
from rolewise.experiments.recipes import Options
from rolewise.experiments.runner import Manner, reproduce, work_through
from rolewise.experiments.setups import Cell, Setup
from rolewise.experiments.site import Site

SMOKE = Options(smoke=True)
SOURCE = Path(runner.__file__).parents[2]


def student(schedule, loss="soft"):
    setup = Setup("digits", "cnn-tiny", bits=2, loss=loss, schedule=schedule, start="teacher")
    return Cell("table1", "row", schedule, setup)


CELLS = (student("a_s"), student("shuffled"))
# A teacher's search and training, a student's search, two trainings: what a cell of table 3 takes.
PLAN = plan(CELLS, [0])


def tensors_of(site):
    """Every network, prediction and schedule that the work left."""
    found = {}
    for path in sorted(site.path.rglob("*")):
        if path.suffix == ".safetensors" or path.name in ("A_T.json", "A_S.json"):
            found[str(path.relative_to(site.path))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("undisturbed") / "out", SMOKE)
    summary = reproduce(site, PLAN, Manner())
    assert summary.done == [one.name for one in PLAN]
    return site


def test_the_plan_is_five_runs():
    assert [(one.kind, one.role) for one in PLAN] == [
        ("search", "teacher"), ("train", "teacher"), ("search", "student"), ("train", "student"),
        ("train", "student"),
    ]  # fmt: skip


def test_complete_work_is_not_done_again(undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.path.rglob("*.safetensors")}
    assert reproduce(Site(undisturbed.path, SMOKE), PLAN, Manner()).done == []
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.path.rglob("*.safetensors")}


def test_students_share_teacher_and_schedule_by_file(undisturbed):
    configs = [json.loads((undisturbed.run(one.name) / "config.json").read_text())["config"] for one in PLAN]
    teacher = str(undisturbed.run(PLAN[1].name) / "teacher.safetensors")
    assert [config["teacher"]["file"] for config in configs] == [None, None, teacher, teacher, teacher]
    assert configs[1]["teacher"]["schedule"] == str(undisturbed.run(PLAN[0].name) / "A_T.json")
    assert configs[3]["student"]["schedule"] == str(undisturbed.run(PLAN[2].name) / "A_S.json")


def test_checkpoints_of_complete_work_are_removed(undisturbed):
    assert not list(undisturbed.path.rglob("checkpoints"))


def test_the_printed_command_repeats_just_that_work(undisturbed, tmp_path, monkeypatch):
    from rolewise.cli import main

    words = undisturbed.command(PLAN[3]).split()
    monkeypatch.chdir(tmp_path)
    assert main([*words[1:], "--quiet"]) == 0
    for name in ("student.safetensors", "tests/student.safetensors"):
        repeated = (tmp_path / "repeated" / name).read_bytes()
        assert repeated == (undisturbed.run(PLAN[3].name) / name).read_bytes()


def progress_of(path):
    """How far the work in a directory has come: bytes of its logs and files in it, of which some may just vanish."""
    found = 0
    for folder, _, files in os.walk(path):
        found += 1 + len(files)
        for file in files:
            if file.endswith(".jsonl"):
                with suppress(FileNotFoundError):
                    found += Path(folder, file).stat().st_size
    return found


def test_killed_again_and_again_and_by_two_processes_it_ends_with_the_same_bytes(undisturbed, tmp_path):
    code = (
        "import sys\n"
        "from test_runner import PLAN, SMOKE, Manner, Site, reproduce\n"
        "if __name__ == '__main__':\n"
        "    reproduce(Site(sys.argv[1], SMOKE), PLAN, Manner(2, wait=0.1))\n"
    )
    script = tmp_path / "work.py"
    script.write_text(code)
    out = tmp_path / "out"
    path = os.pathsep.join([str(SOURCE), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, str(script), str(out)], env=environment, start_new_session=True
        )
        before, until = progress_of(out), time.monotonic() + 200
        while (
            progress_of(out) < before + 40 and child.poll() is None
        ):  # some work is done, and some is under way
            assert time.monotonic() < until
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    subprocess.run([sys.executable, str(script), str(out)], env=environment, check=True, timeout=400)
    found, expected = tensors_of(Site(out, SMOKE)), tensors_of(undisturbed)
    assert found.keys() == expected.keys()
    assert found == expected


def test_a_kill_before_the_checkpoints_of_complete_work_were_removed_leaves_none(tmp_path):
    site, work = Site(tmp_path / "out", SMOKE), plan([student("none")], [0])
    reproduce(site, work, Manner(keep_checkpoints=True))  # what a kill at that point leaves
    assert list(site.path.rglob("ckpt-*"))
    assert not reproduce(site, work, Manner()).done
    assert not list(site.path.rglob("ckpt-*"))


def test_a_signal_stops_and_the_same_call_resumes(undisturbed, tmp_path):
    site = Site(tmp_path / "out", SMOKE)
    polls = []

    def stop():
        polls.append(1)
        return len(polls) > 12

    with pytest.raises(Interrupted, match=r"^[\w/-]+: stopped [^.]*\. The same command resumes it$"):
        work_through(site, PLAN, Manner(), should_stop=stop)
    assert any(not site.done(one) for one in PLAN)
    reproduce(site, PLAN, Manner())
    assert tensors_of(site) == tensors_of(undisturbed)


def test_what_fails_is_kept_apart_and_tried_again(tmp_path, monkeypatch):
    site = Site(tmp_path / "out", SMOKE)
    missing = Setup("cifar10", "cnn-tiny", role="teacher")
    work = (*plan([Cell("table2", "", "", missing)], [0]), *plan([student("none", "none")], [0]))
    summary = reproduce(site, work, Manner())
    assert list(summary.failed) == [work[0].name]
    assert "`root` is missing: cifar10 needs" in summary.failed[work[0].name]
    assert len(summary.done) == len(work) - 1
    assert "`root` is missing" in str(site.failure(work[0].name))

    def disk_is_full(*arguments, **options):
        raise RunError("Cannot write: No space left on device.")

    monkeypatch.setattr(runner, "execute", disk_is_full)
    again = Site(tmp_path / "other", SMOKE)
    summary = reproduce(again, PLAN, Manner())
    assert list(summary.failed) == [PLAN[0].name]
    assert summary.blocked == [one.name for one in PLAN[1:]]
    monkeypatch.undo()
    assert reproduce(again, PLAN[:1], Manner()).done == [PLAN[0].name]
    assert again.failure(PLAN[0].name) is None


def test_a_directory_holds_one_experiment(tmp_path):
    Site(tmp_path / "out", SMOKE)
    with pytest.raises(InputError, match="holds work with `scale` 1.0, not 0.5"):
        Site(tmp_path / "out", Options(scale=0.5))
    about = tmp_path / "out" / "experiment.json"
    whole = about.read_text()
    about.write_text(whole.replace('"requests"', '"request"'))
    with pytest.raises(InputError, match=r"experiment\.json is damaged: requests missing or of another type"):
        Site(tmp_path / "out", SMOKE)
    about.write_text(whole)
    about.write_text(about.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(InputError, match="has format version 9; this version of rolewise reads 1"):
        Site(tmp_path / "out", SMOKE)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "letter.txt").write_text("x")
    with pytest.raises(InputError, match="holds something else: name a new directory"):
        Site(tmp_path / "else", SMOKE)
    with pytest.raises(InputError, match="must be a directory, but it is a file"):
        Site(tmp_path / "else" / "letter.txt", SMOKE)


def test_test_labels_reach_the_final_score_alone(undisturbed, tmp_path, monkeypatch):
    read = vars(Data)["test"].func

    def permuted(data):
        split = read(data)
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(1))
        return replace(split, labels=split.labels[order])

    monkeypatch.setattr(Data, "test", property(permuted))
    site = Site(tmp_path / "out", SMOKE)
    reproduce(site, PLAN, Manner())
    for one in PLAN:
        mine, theirs = site.run(one.name), undisturbed.run(one.name)
        names = {str(path.relative_to(mine)) for path in mine.rglob("*") if path.is_file()}
        assert names == {str(path.relative_to(theirs)) for path in theirs.rglob("*") if path.is_file()}
        for name in names - {"lock"}:
            compare = _FILES.get(Path(name).name if not name.startswith("tests/") else "tests", same_bytes)
            compare(mine / name, theirs / name, site.path, undisturbed.path)
    scores = [json.loads((one.run(PLAN[3].name) / "results.json").read_text()) for one in (site, undisturbed)]
    assert len({row["loss"] for score in scores for row in score["rows"] if row["key"] == "student"}) == 2


def same_bytes(mine, theirs, here, there):
    assert mine.read_bytes() == theirs.read_bytes(), mine


def same_apart_from_place(mine, theirs, here, there):
    assert mine.read_text().replace(str(here), str(there)) == theirs.read_text(), mine


def same_logits(mine, theirs, here, there):
    mine_tensors, their_tensors = load_file(mine), load_file(theirs)
    assert torch.equal(mine_tensors["logits"], their_tensors["logits"])
    assert not torch.equal(mine_tensors["labels"], their_tensors["labels"])


def same_apart_from_the_test(mine, theirs, here, there):
    def lines(path):
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [
            {key: value for key, value in line.items() if "seconds" not in key}
            for line in found
            if line["split"] != "test"
        ]

    assert lines(mine) == lines(theirs)


def same_apart_from_the_score(mine, theirs, here, there):
    def rest(path):
        record = json.loads(path.read_text())
        for row in record["rows"]:
            for name in ("accuracy", "loss", "accuracy_batch_statistics"):
                row.pop(name)
        for cost in record["costs"]:
            for name in ("seconds", "cpu_seconds"):
                cost.pop(name)
        return record

    assert rest(mine) == rest(theirs)


def same_tensors(mine, theirs, here, there):
    """A network's file says its test accuracy in the header."""
    first, second = load_file(mine), load_file(theirs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first), mine


def same_apart_from_the_accuracy(mine, theirs, here, there):
    def rest(value):
        if isinstance(value, dict):
            return {key: rest(one) for key, one in value.items() if "accuracy" not in key and key != "sha256"}
        return value

    assert rest(json.loads(mine.read_text())) == rest(json.loads(theirs.read_text())), mine


def same_inputs(mine, theirs, here, there):
    """Digests of a teacher's file cover the accuracy that it states; the copied files are compared themselves."""
    first, second = (json.loads(path.read_text()) for path in (mine, theirs))
    assert {key: one["files"].keys() for key, one in first.items()} == {
        key: one["files"].keys() for key, one in second.items()
    }


def same_stages(mine, theirs, here, there):
    """Lengths of logs in bytes depend on the digits of the score."""
    assert json.loads(mine.read_text()).keys() == json.loads(theirs.read_text()).keys()


_FILES = {
    "config.json": same_apart_from_place,
    "metrics.jsonl": same_apart_from_the_test,
    "results.json": same_apart_from_the_score,
    "stages.json": same_stages,
    "inputs.json": same_inputs,
    "tests": same_logits,
    "teacher.safetensors": same_tensors,
    "student.safetensors": same_tensors,
    "teacher.json": same_apart_from_the_accuracy,
    "student.json": same_apart_from_the_accuracy,
}


@pytest.mark.ray
@pytest.mark.timeout(1800)  # a minute, but for a machine that does much else
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
def test_through_ray_it_ends_with_the_same_bytes(undisturbed, tmp_path, monkeypatch):
    from rolewise.experiments.ray_tasks import reproduce_on_ray

    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    site = Site(tmp_path / "out", SMOKE)
    with pytest.raises(InputError, match="`gpus_per_run` is 1, but the Ray cluster has 0 GPUs"):
        reproduce_on_ray(site, PLAN, Manner(), gpus_per_run=1)
    summary = reproduce_on_ray(site, PLAN, Manner())
    assert summary.failed == {}
    assert sorted(summary.done) == sorted(one.name for one in PLAN)
    assert tensors_of(site) == tensors_of(undisturbed)
