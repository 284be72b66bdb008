"""No name is used that is not defined. Linters are set to ignore this, since shapes in annotations are no names."""

import io
import json
import os
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def in_a_text(path: Path, row: int, column: int) -> bool:
    """Whether a place lies within a string, such as the shape of an annotation."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type == tokenize.STRING and token.start <= (row, column) < token.end:
            return True
    return False


def undefined(*folders: str) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "F821",
        "--output-format",
        "json",
    ]
    run = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    found = []
    for fault in json.loads(run.stdout):
        path, place = Path(fault["filename"]), fault["location"]
        if not in_a_text(path, place["row"], place["column"] - 1):
            found.append(f"{os.path.relpath(path, ROOT)}:{place['row']}: {fault['message']}")
    return found


def test_every_name_is_defined() -> None:
    assert undefined("src", "benchmarks", "tests", "examples") == []


def test_the_check_sees_a_name(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text('from typing import Annotated\n\nx: Annotated[int, "n c"] = missing\n')
    assert undefined(str(path)) == [f"{os.path.relpath(path, ROOT)}:3: Undefined name `missing`"]
