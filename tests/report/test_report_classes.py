"""The report's accuracy per class and confusion matrices, against counts by hand."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rolewise.report.classes import classes
from rolewise.report.load import load
from rolewise.report.markdown import markdown
from rolewise.report.page import html_page


def outputs(k, n, seed):
    generator = torch.Generator().manual_seed(seed)
    return {"logits": torch.randn(n, k, generator=generator), "labels": torch.arange(n) % (k - 1)}


@pytest.fixture
def tested(made: dict[str, Path], tmp_path: Path) -> Path:
    """A complete run whose test outputs are known; no test image is of the last of five classes."""
    folder = tmp_path / "run"
    shutil.copytree(made["complete"], folder)
    (folder / "tests").mkdir()
    for seed, role in enumerate(("teacher", "student")):
        save_file(outputs(5, 40, seed), folder / "tests" / f"{role}.safetensors")
    return folder


def test_counts(tested):
    found = classes(load(tested))
    assert found["roles"] == ["Teacher", "Student"]
    assert [row["n"] for row in found["rows"]] == [10, 10, 10, 10, 0]
    assert found["rows"][4]["percents"] == ["–", "–"]
    for seed, table in enumerate(found["confusions"]):
        given = outputs(5, 40, seed)
        by_hand = [[0] * 5 for _ in range(5)]
        for logits, label in zip(given["logits"].tolist(), given["labels"].tolist(), strict=True):
            by_hand[label][logits.index(max(logits))] += 1
        assert table["cells"] == by_hand
        for label in range(4):
            share = f"{100 * by_hand[label][label] / sum(by_hand[label]):.1f}"
            assert found["rows"][label]["percents"][seed] == share


def test_page_and_markdown_show_them(tested):
    run = load(tested)
    page = html_page(run)
    assert '<h2 id="classes">Classes</h2>' in page
    assert "Student: what each class (row) is taken for (column)" in page
    text, _ = markdown(run, "pictures")
    assert "## Classes" in text
    assert "| Class | Test images | Teacher, % | Student, % |" in text


def test_many_classes_show_the_worst(tested):
    for role in ("teacher", "student"):
        save_file(outputs(101, 2000, 3), tested / "tests" / f"{role}.safetensors")
    found = classes(load(tested))
    assert (len(found["rows"]), found["left_out"], found["confusions"]) == (30, 71, [])
    assert all(
        row["n"] == 20 for row in found["rows"]
    )  # the one class without a test image is not among the worst


def test_a_run_without_outputs_and_one_with_damaged_ones(made, tested):
    assert classes(load(made["complete"])) is None
    (tested / "tests" / "student.safetensors").write_bytes(b"no tensors")
    run = load(tested)
    assert classes(run)["roles"] == ["Teacher"]
    assert run.faults[-1].startswith("tests/student.safetensors cannot be read")
