"""The layout of a run directory is spelled in one file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rolewise
from rolewise.runs import layout

ROOT = Path(rolewise.__file__).parent
HOMES = {"runs/layout.py", "_roles.py"}
NAMES = {
    "metrics.jsonl", "lineage.jsonl", "results.json", "stages.json", "kd.safetensors", "report.html", "prepare-kd",
    "A_T", "A_S", "A_T.json", "A_S.json", "teacher.safetensors", "student.safetensors", "search-", "train-",
    "checkpoints", "baselines/", "pbt-",
}  # fmt: skip
# A folder in the layout of the Hugging Face Hub has a `config.json` of its own.
HUB = {"pretrained/pair.py", "pretrained/card.py"}
# The pieces of work of an experiment have names of their own, which begin like those of stages.
WORK = {"experiments/plan.py", "experiments/setups.py"}


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts that a program computes with: no docstrings, no parts of sentences."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
            yield str(node.values[0].value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_names_of_files_and_stages_are_spelled_in_one_file() -> None:
    found, files = [], 0
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in HOMES:
            continue
        files += 1
        spelled = set(texts(ast.parse(path.read_text("utf-8"))))
        wanted = NAMES if name in HUB else NAMES | {"config.json"}
        wanted = wanted - {"search-", "train-"} if name in WORK else wanted
        found += [f"{name}: {one}" for one in sorted(spelled & wanted)]
    assert files > 100
    assert found == []


def test_the_check_sees_what_it_looks_for() -> None:
    source = 'a = f"search-{role}"\nb = folder / "results.json"\n"""Reads `metrics.jsonl`."""\n'
    assert set(texts(ast.parse(source))) & NAMES == {"search-", "results.json"}
    assert set(texts(ast.parse((ROOT / "runs" / "layout.py").read_text("utf-8")))) >= NAMES - {
        "A_T", "A_S", "A_T.json", "A_S.json", "teacher.safetensors", "student.safetensors", "baselines/", "pbt-",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "key"),
    [("train-student-kd", "student-kd"), ("train", None), ("search-teacher", None), ("None", None)],
)
def test_which_training_a_stage_is(stage: str, key: str | None) -> None:
    assert layout.trained_in(stage) == key
    if key is not None:
        assert layout.train_stage(key) == stage


def test_names_are_those_of_the_documentation() -> None:
    assert layout.search_stage("teacher") == "search-teacher"
    assert layout.schedule_file("student") == "A_S.json"
    assert layout.network_file("teacher") == "teacher.safetensors"
    assert layout.network_file("student-kd", baseline=True) == "baselines/student-kd.safetensors"
    assert layout.search_logs("teacher") == "pbt-teacher"
