"""What a run keeps of own code, and when it runs it again."""

import hashlib
import json
from pathlib import Path

import pytest

from rolewise.config import changed, load_config
from rolewise.errors import InputError
from rolewise.progress import Progress
from rolewise.runs import RunDirectory
from rolewise.stages import own

LOSS = "from rolewise.kd import SoftLabels\n\n\nclass Mine(SoftLabels):\n    pass\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run directory whose loss is own code, named from another folder."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(LOSS)
    config = own.absolute(load_config(options={"kd.loss": "mine.py:Mine"}))
    said = []
    progress = Progress()
    progress.note = said.append
    with RunDirectory.create(tmp_path / "run", config.model_dump()) as directory:
        own.keep(directory, config, progress)
    assert said == [f"own code, kd.loss: {tmp_path}/mine.py, Mine, SHA-256 {_sha(LOSS)[:16]}..."]
    return tmp_path / "run", config


def _sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_records_and_copy(run, tmp_path):
    folder, config = run
    assert config.kd.loss == f"{tmp_path}/mine.py:Mine"
    record = json.loads((folder / "code" / "own.json").read_text())["kd.loss"]
    assert record == {
        "path": str(tmp_path / "mine.py"),
        "name": "Mine",
        "sha256": _sha(LOSS),
        "copy": f"code/mine-{_sha(LOSS)[:8]}.py",
    }
    assert (folder / record["copy"]).read_text() == LOSS
    own.check_unchanged(folder, config, {})


def test_what_is_not_run_again(run, tmp_path):
    folder, config = run
    named = {"kd.loss": "mine.py:Mine"}
    Path("mine.py").write_text(LOSS + "# changed\n")
    with pytest.raises(
        InputError, match=r"`kd.loss`: .*mine.py has changed since .*run was started. Look at it, and"
    ):
        own.check_unchanged(folder, config, {})
    own.check_unchanged(folder, config, named)  # the user's own word
    own.check_unchanged(folder, config, {}, only=("teacher.network",))  # the loss is not run
    Path("mine.py").rename("moved.py")
    with pytest.raises(
        InputError, match=r"There is no file .*mine.py.* A copy of what the run used is .*code/mine-"
    ):
        own.check_unchanged(folder, config, {})
    inside = changed(config.model_dump(), {"kd.loss": f"{folder}/code/mine-{_sha(LOSS)[:8]}.py:Mine"})
    with pytest.raises(
        InputError, match=r"lies within the run directory, so it came with it. .*--kd FILE.py:NAME"
    ):
        own.check_unchanged(folder, inside, {})
    (folder / "code" / "own.json").write_text("{}")
    (tmp_path / "mine.py").write_text(LOSS)
    with pytest.raises(InputError, match="has no record of"):
        own.check_unchanged(folder, config, {})
    for content in ('{"kd.loss": 3}', '{"kd.loss": {"path": "mine.py"}}', "[]"):
        (folder / "code" / "own.json").write_text(content)
        with pytest.raises(InputError, match=r"own.json cannot be used: .*The file was changed or damaged"):
            own.check_unchanged(folder, config, {})


def test_the_same_code_elsewhere_is_no_change(run):
    folder, _ = run
    Path("copy.py").write_text(LOSS)
    Path("other.py").write_text(LOSS + "\n")
    assert own.same_code(folder, "kd.loss", "copy.py:Mine")
    assert not own.same_code(folder, "kd.loss", "copy.py:Other")
    assert not own.same_code(folder, "kd.loss", "other.py:Mine")
    assert not own.same_code(folder, "kd.loss", "soft")
    assert not own.same_code(folder, "student.network", "copy.py:Mine")
