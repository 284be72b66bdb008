"""Logs: appended to, cut back, read without a torn tail."""

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolewise.errors import InputError
from rolewise.runs import logs, read_lineage, read_metrics


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(tmp_path) == []
    logs.append(path, {"role": "teacher", "member": None, "accuracy": 0.5})
    logs.append(path, {"role": "größe\n", "loss": math.nan, "old": (1, 2)})
    expected = [
        {"role": "teacher", "member": None, "accuracy": 0.5},
        {"role": "größe\n", "loss": None, "old": [1, 2]},
    ]
    assert read_metrics(path) == read_metrics(tmp_path) == expected
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == expected
    assert read_lineage(tmp_path) == []


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1))
def test_a_log_cut_anywhere_gives_its_whole_lines(cut: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        ends = [0]
        for epoch in range(5):
            logs.append(path, {"epoch": epoch, "text": "ü" * epoch})
            ends.append(path.stat().st_size)
        length = round(cut * ends[-1])
        path.write_bytes(path.read_bytes()[:length])
        whole = sum(end <= length for end in ends[1:])
        assert [entry["epoch"] for entry in read_metrics(path)] == list(range(whole))
        logs.mend(path)
        logs.append(path, {"epoch": 99})
        assert [entry["epoch"] for entry in read_metrics(path)] == [*range(whole), 99]


def test_back_to_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert logs.mark(path) == 0
    logs.append(path, {"epoch": 1})
    mark = logs.mark(path)
    before = path.read_bytes()
    assert mark == len(before)
    logs.append(path, {"epoch": 2})
    logs.rewind(path, mark)
    assert path.read_bytes() == before
    logs.rewind(path, mark)
    logs.rewind(tmp_path / "none.jsonl", 0)
    with pytest.raises(
        InputError, match=rf"has {mark} bytes, but the checkpoint was saved when it had {mark + 1}"
    ):
        logs.rewind(path, mark + 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [("{1}", r"metrics\.jsonl:2 is not JSON"), ("[1]", r"metrics\.jsonl:2 must be a JSON object, got list")],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"{{}}\n{line}\n{{}}\n")
    with pytest.raises(InputError, match=words):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"epoch": "/"}', "metrics.jsonl:2 epoch: Input should be a valid integer"),
        ('{"epoch": [1]}', "metrics.jsonl:2 epoch"),
        ('{"epoch": Infinity}', "metrics.jsonl:2 epoch"),
        ('{"accuracy": "high", "member": {}}', "metrics.jsonl:2 member.*metrics.jsonl:2 accuracy"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"epoch": 1, "accuracy": null}}\n{line}\n')
    with pytest.raises(InputError, match=message):
        read_metrics(tmp_path)
