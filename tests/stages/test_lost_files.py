"""Files of a run that are lost or changed: nothing is cut before that is known, and what can be is made again."""

import json
import shutil

import pytest

from rolewise.errors import InputError
from rolewise.progress import Progress
from rolewise.stages import open_pipeline, run_all

SMALL = {
    "data.search_train": 128, "data.search_validation": 100, "search.population": 4, "search.epochs": 2,
    "search.interval": 1, "search.batch_size": 64, "teacher.train.epochs": 2, "teacher.train.batch_size": 64,
    "kd.prepare_epochs": 1, "student.train.epochs": 1, "student.train.batch_size": 64, "machine.threads": 1,
    "machine.workers": 1, "baselines": "student-plain,student-kd",
}  # fmt: skip


class Notes(Progress):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    with open_pipeline(SMALL, out=path) as pipeline:
        run_all(pipeline)
    return path


@pytest.fixture
def run(complete, tmp_path):
    return shutil.copytree(complete, tmp_path / "run")


def content(path):
    """All that a run holds but for what holds times, and the lock."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("results.json", "lock", "stages.json")
    }


def resume(path):
    notes = Notes()
    with open_pipeline(resume=path, progress=notes) as pipeline:
        return run_all(pipeline)["rows"], notes.said


def test_a_complete_run_is_left_as_it_is(run, complete):
    resume(run)
    assert content(run) == content(complete)


@pytest.mark.parametrize("text", [None, "{}"])
def test_without_its_stages_nothing_is_cut(run, complete, text):
    (run / "stages.json").unlink()
    if text is not None:
        (run / "stages.json").write_text(text)
    with pytest.raises(
        InputError,
        match="holds lines of .*train-teacher.* after .*search-teacher.*nothing was cut",
    ):
        resume(run)
    assert content(run) == content(complete)
    shutil.copy(complete / "stages.json", run / "stages.json")
    resume(run)
    assert content(run) == content(complete)


def test_lost_results_are_made_again(run, complete):
    before = json.loads((complete / "results.json").read_text())["rows"]
    (run / "results.json").unlink()
    rows, said = resume(run)
    assert rows == before
    assert any("results.json has lost teacher: it is made again" in text for text in said)
    assert content(run) == content(complete)


@pytest.mark.parametrize(
    "name", ["student.safetensors", "baselines/student-plain.safetensors", "teacher.safetensors"]
)
def test_a_lost_network_is_made_again(run, complete, name):
    (run / name).unlink()
    _, said = resume(run)
    assert any(f"{name} has lost" in text for text in said)
    assert content(run) == content(complete)


def test_a_network_that_is_lost_with_its_checkpoints(run):
    (run / "student.safetensors").unlink()
    shutil.rmtree(run / "checkpoints" / "train-student")
    with pytest.raises(
        InputError, match="student.safetensors has lost student, whose checkpoints are gone too"
    ):
        resume(run)


@pytest.mark.parametrize(
    ("name", "needed"),
    [("A_T.json", "train-teacher"), ("A_S.json", "train-student"), ("teacher.safetensors", "search-student"),
     ("kd.safetensors", "search-student")],
)  # fmt: skip
def test_a_product_that_was_changed_is_not_used(run, name, needed):
    """The stage that needs it is to be done again."""
    data = bytearray((run / name).read_bytes())
    data[-5] ^= 1
    (run / name).write_bytes(data)
    stages = json.loads((run / "stages.json").read_text())
    later = list(stages)[list(stages).index(needed) :]
    (run / "stages.json").write_text(json.dumps({key: stages[key] for key in stages if key not in later}))
    for stage in later:
        shutil.rmtree(run / "checkpoints" / stage, ignore_errors=True)
    for log in ("metrics.jsonl", "lineage.jsonl"):
        kept = stages[list(stages)[list(stages).index(needed) - 1]]["marks"][log]
        (run / log).write_bytes((run / log).read_bytes()[:kept])
    with pytest.raises(InputError, match=f"{name} is not the file that the stage .* made"):
        resume(run)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("[1, 2, 3]", "should be a valid dictionary"),
        ('{"rows": 3}', r"rows: .*valid list"),
        ('{"rows": [{"key": 5}]}', r"rows\.0\.key: Input should be a valid string.*and \d more"),
        ('{"rows": [], "costs": [{"stage": "train-teacher", "seconds": "long"}]}', r"costs\.0\.seconds"),
    ],
)
def test_results_of_another_form_are_refused_and_left(run, content, fault):
    (run / "results.json").write_text(content)
    with pytest.raises(InputError, match=rf"results\.json cannot be used: .*{fault}.*restore it"):
        resume(run)
    assert (run / "results.json").read_text() == content


def test_rows_of_an_earlier_version_are_filled_up(run):
    results = json.loads((run / "results.json").read_text())
    for row in results["rows"]:
        for key in ("no_operation", "schedule_sha256", "quantizer", "init", "network"):
            del row[key]
    (run / "results.json").write_text(json.dumps(results))
    rows, _ = resume(run)
    assert {(row["network"], row["no_operation"]) for row in rows} == {("unknown", False)}
