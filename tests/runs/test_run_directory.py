"""Run directories: who may write, what is refused, what a kill leaves, where they may lie."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from run_samples import crash, groups, powerless, same

import rolewise
from rolewise.errors import InputError, RunError
from rolewise.runs import CheckpointStore, RunDirectory, environment, read_config, read_lineage, read_metrics

HOLD = """
import sys
from rolewise.runs import RunDirectory
with RunDirectory.open(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_it_holds(tmp_path: Path) -> None:
    config = {"seed": 3, "data": {"name": "digits"}, "learning_rate": float("inf")}
    with RunDirectory.create(tmp_path / "runs" / "a", config) as run:
        assert run.config == config
        assert run.write_json("results.json", {"rows": [], "loss": float("nan")}) == run.path / "results.json"
        assert run.read_json("results.json") == {"rows": [], "loss": None}
    record = json.loads((tmp_path / "runs" / "a" / "config.json").read_text("utf-8"))
    assert record["format"] == "rolewise.run"
    assert record["format_version"] == 1
    assert record["config"] == {**config, "learning_rate": None}
    assert record["environment"]["versions"]["rolewise"] == rolewise.__version__
    assert read_config(tmp_path / "runs" / "a") == record
    with RunDirectory.open(tmp_path / "runs" / "a") as run:
        run.update_config({"seed": 4})
        assert run.changes() == []
        run.environment["versions"]["torch"] = "1.0"
        assert run.changes() == [f"torch 1.0 -> {environment()['versions']['torch']}"]
    assert read_config(run.path)["config"] == {"seed": 4}
    assert read_config(run.path)["environment"] == record["environment"]


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "a", {"seed": 1}).close()
    before = files(tmp_path / "a")
    with pytest.raises(
        InputError, match=r"`--out` .*/a already holds a run\. Resume it with `--resume .*/a`, or name"
    ):
        RunDirectory.create(tmp_path / "a", {"seed": 2})
    assert files(tmp_path / "a") == before


def test_only_an_empty_place_will_do(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r'`--out` .* must be new or empty, but it holds "thesis\.tex"'):
        RunDirectory.create(tmp_path / "used", {})
    assert files(tmp_path / "used") == {"thesis.tex": b""}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"`--out` .*/file must be a directory"):
        RunDirectory.create(tmp_path / "file", {})
    with pytest.raises(InputError, match=r"Cannot write in `--out` .*/file/b: Not a directory"):
        RunDirectory.create(tmp_path / "file" / "b", {})
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty", {}).close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"is not a run directory: it has no config\.json"),
        ("{", r"config\.json:1 is not JSON"),
        ("{}", r'config\.json is not that of a run: its `format` must be "rolewise\.run"'),
        ('{"format": "rolewise.run", "format_version": 2}', r"has format version 2; .* reads up to 1"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=words):
        RunDirectory.open(tmp_path)


def test_two_processes_and_a_dead_one(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "a", {}).close()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "a"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == "held\n"
        words = f"/a is in use by process {holder.pid} on {socket.gethostname()}. Wait until it ends"
        for _ in range(2):
            with pytest.raises(RunError) as refused:
                RunDirectory.open(tmp_path / "a")
            assert words in str(refused.value)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    assert f"process {holder.pid} " in (tmp_path / "a" / "lock").read_text()
    with RunDirectory.open(tmp_path / "a"):
        assert f"process {os.getpid()} " in (tmp_path / "a" / "lock").read_text()
        with pytest.raises(RunError, match=f"is in use by process {os.getpid()} on"):
            RunDirectory.open(tmp_path / "a")
    assert (tmp_path / "a" / "lock").read_text() == ""


def test_opening_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "a", {}).close()
    (tmp_path / "a" / ".tmp-1-1").write_text("half")
    (tmp_path / "a" / "metrics.jsonl").write_text('{"epoch": 1}\n{"ep')
    with RunDirectory.open(tmp_path / "a") as run:
        run.append_metrics(epoch=2)
    assert read_metrics(tmp_path / "a") == [{"epoch": 1}, {"epoch": 2}]
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "lock", "metrics.jsonl"]


def test_a_directory_that_cannot_be_opened_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunDirectory.create(tmp_path / "a", {}).close()

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("rolewise.runs.directory.logs.mend", full)
        with pytest.raises(InputError, match="Cannot write in `--resume`") as kept:
            RunDirectory.open(tmp_path / "a")
    RunDirectory.open(tmp_path / "a").close()  # while the error and its frames are still there
    assert kept.value.__cause__ is not None


def test_killed_at_every_step_it_goes_on_or_begins(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    killed = crash("directory", tmp_path)
    seen = set()
    for point in range(1, killed + 2):
        place = tmp_path / str(point) / "run"
        try:
            run = RunDirectory.open(place)
        except InputError:
            run = RunDirectory.create(place, {"seed": 1})
        with run:
            run.rewind()
            done = run.done("train-teacher")
            lines = [entry["role"] for entry in read_metrics(place)]
            assert lines == (["teacher"] if done else [])
            seen.add(done)
            if done:
                assert run.stage_info("train-teacher") == {"epochs": 1}
            else:
                with pytest.raises(InputError, match=r'The stage "train-teacher" of .* is not complete'):
                    run.stage_info("train-teacher")
    assert killed > 25
    assert seen == {False, True}


def test_stages_and_marks(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "a", {}) as run:
        run.append_metrics(epoch=1)
        run.append_lineage(target=3, source=1, old=[0] * 60)
        first = run.marks()
        run.mark_done("search-teacher", {"best": 1})
        run.append_metrics(epoch=2)
        run.append_lineage(target=4, source=1)
        second = run.marks()
        assert second == {
            name: (run.path / name).stat().st_size for name in ("metrics.jsonl", "lineage.jsonl")
        }
        run.mark_done("train-teacher")
        run.append_metrics(epoch=3)
        run.rewind()
        assert run.marks() == second
        assert [run.done(name) for name in ("search-teacher", "train-teacher", "search-student")] == [
            True,
            True,
            False,
        ]
        run.rewind(first)
        assert run.marks() == first


def test_lines_of_other_stages_are_not_cut(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "a", {}) as run:
        run.append_metrics(stage="search-teacher", epoch=1)
        run.append_lineage(role="teacher", epoch=1)
        marks = run.marks()
        run.append_metrics(stage="search-teacher", epoch=2)
        run.append_lineage(role="teacher", epoch=2)
        run.append_metrics(stage="train-teacher", epoch=1)
        before = {name: (run.path / name).read_bytes() for name in ("metrics.jsonl", "lineage.jsonl")}
        with pytest.raises(InputError, match="holds lines of train-teacher after .*nothing was cut"):
            run.rewind(marks, stage="search-teacher")
        with pytest.raises(InputError, match="holds lines of search-teacher after"):
            run.rewind(stage="train-teacher")
        assert before == {name: (run.path / name).read_bytes() for name in before}
        run.mark_done("train-teacher")
        run.rewind(marks, stage="search-teacher")
        assert [(line["stage"], line["epoch"]) for line in read_metrics(run.path)] == [
            ("search-teacher", 1), ("train-teacher", 1),
        ]  # fmt: skip
        assert [line["epoch"] for line in read_lineage(run.path)] == [1]
        run.append_metrics(stage="search-teacher", epoch=2)
        run.rewind(stage="search-teacher")  # the marks of the complete stage are those of the shorter log
        assert len(read_metrics(run.path)) == 2


def test_a_file_that_a_stage_made_is_known(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "a", {}) as run:
        run.write_json("A_T.json", {"x": 1})
        run.write_json("other.json", {"x": 1})
        run.verify("A_T.json")  # no stage is complete yet
        run.mark_done("search-teacher", files=["A_T.json"])
        run.verify("A_T.json")
        run.verify("other.json")
        run.write_json("A_T.json", {"x": 2})
        with pytest.raises(InputError, match='A_T.json is not the file that the stage "search-teacher" made'):
            run.verify("A_T.json")
        (run.path / "A_T.json").unlink()
        with pytest.raises(InputError, match="Cannot read .*A_T.json"):
            run.verify("A_T.json")


def test_checkpoints_of_a_stage_and_the_note(tmp_path: Path) -> None:
    said: list[str] = []
    with RunDirectory.create(tmp_path / "a", {}) as run:
        run.note = said.append
        store = run.checkpoints("train-teacher", keep=3)
        store.save(1, {}, {"step": 1})
        store.save(2, {}, {"step": 2})
        assert store.folder == run.path / "checkpoints" / "train-teacher"
        (store.folder / "ckpt-000002" / "state.json").unlink()
        latest = store.latest()
        assert latest is not None
        assert latest.step == 1
        assert len(said) == 1
        with pytest.raises(InputError, match="`name` must be a plain name"):
            run.checkpoints("../a")
        with pytest.raises(InputError, match="`name` must lie within"):
            run.write_json("../a.json", {})


def test_it_may_be_moved(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "before", {}) as run:
        run.checkpoints("train").save(1, groups(1), {"step": 1, "marks": run.marks()})
        run.append_metrics(epoch=1)
    shutil.move(tmp_path / "before", tmp_path / "after")
    assert all(b"before" not in data for data in files(tmp_path / "after").values())
    with RunDirectory.open(tmp_path / "after") as run:
        found = run.checkpoints("train").latest()
        assert found is not None
        assert same(found, 1)
        run.rewind(found.state["marks"])
    assert read_metrics(tmp_path / "after") == []


@pytest.mark.parametrize("name", ["with blanks in it", "Größe 漢字 🎓", "-rf", "\udcff not UTF-8", "a'b\"c"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    with RunDirectory.create(tmp_path / name, {"root": str(tmp_path / name)}) as run:
        run.append_metrics(epoch=1)
        run.checkpoints("train").save(1, groups(1), {"step": 1})
    with RunDirectory.open(tmp_path / name) as run:
        assert run.config["root"] == str(tmp_path / name)
        found = run.checkpoints("train").latest()
        assert found is not None
        assert same(found, 1)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter (pytest's own are closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="rolewise-test-"))
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_directory_can_be_read(public: Path) -> None:
    with RunDirectory.create(public / "a", {"seed": 1}) as run:
        run.append_metrics(epoch=1)
        run.checkpoints("train").save(1, groups(1), {"step": 1})
    for path in [*run.path.rglob("*"), run.path, public]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with powerless():
        with pytest.raises(InputError, match=r"Cannot write in `--resume` .*/a: Permission denied"):
            RunDirectory.open(public / "a")
        with pytest.raises(InputError, match=r"Cannot write in `--out` .*/b: Permission denied"):
            RunDirectory.create(public / "b", {})
        assert read_config(public / "a")["config"] == {"seed": 1}
        assert read_metrics(public / "a") == [{"epoch": 1}]
        found = CheckpointStore(public / "a" / "checkpoints" / "train").latest()
        assert found is not None
        assert same(found, 1)


def test_the_code_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "run-directory.md").read_text("utf-8")
    code = text.split("```python\n")[2].split("```")[0]
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Linear(2, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exec(code, {"model": model})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [line["epoch"] for line in read_metrics("runs/mine")] == [1, 2, 3]


@pytest.mark.parametrize("content", ["[1, 2]", '{"train": true}', '{"train": {"info": 3, "marks": {}}}'])
def test_a_file_of_stages_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    with RunDirectory.create(tmp_path / "a", {}) as run:
        (tmp_path / "a" / "stages.json").write_text(content)
        with pytest.raises(InputError, match=r"stages\.json cannot be used: .*restore it"):
            run.done("train")
