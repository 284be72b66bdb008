"""Committed results say where they come from, and the page that quotes them quotes them rightly."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def test_there_are_results():
    assert {path.stem for path in RESULTS} >= {"augment", "exact", "kd", "quant", "step"}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_carries_its_origin(path):
    result = json.loads(path.read_text("utf-8"))
    environment = result["environment"]
    assert re.fullmatch(r"[0-9a-f]{40}\+?", environment["commit"])
    assert environment["hardware"]["cpu"]
    assert environment["hardware"]["cores"] >= 1
    assert {"python", "torch", "numpy"} <= set(environment["versions"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["measured"])
    assert result["command"].startswith(("python benchmarks/", "make exact", "make soak"))
    assert result["figures"]


def test_the_page_is_what_the_results_give(tmp_path):
    """Redrawn in a copy, it must equal the committed file."""
    for folder in ("benchmarks", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = tmp_path / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    subprocess.run(
        [sys.executable, str(tmp_path / "benchmarks" / "page.py")], check=True, capture_output=True
    )
    name = Path("docs") / "performance.md"
    assert (tmp_path / name).read_text("utf-8") == (ROOT / name).read_text("utf-8")
