"""Whole files, JSON, names, and what a full disk leaves."""

import json
import math
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_samples import crash

from rolewise.errors import InputError, RunError
from rolewise.runs import load_json, to_json, write_atomic
from rolewise.runs.files import check_name, finite, free_bytes, inside


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"", b"x", b"new" * 100_000):
        write_atomic(path, data)
        assert path.read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_killed_at_every_step_the_old_or_the_new_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "file").write_bytes(b"old")
    killed = crash("atomic", tmp_path)
    found = [(tmp_path / str(point) / "file").read_bytes() for point in range(1, killed + 2)]
    assert killed == 9  # around two writes, flush, rename, flush of the folder
    assert found == sorted(found, key=lambda data: data != b"old")
    assert set(found) == {b"old", b"new " * 1000}


def test_a_full_disk_leaves_the_old_file_and_says_what_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(RunError, match=r"Cannot write .*file: .* It needs 300,000 bytes, .* are free\."):
            write_atomic(path, bytes(300_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_too_little_room_is_seen_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(RunError, match=r"It needs 11 bytes, 10 are free\. What was there before is intact"):
        write_atomic(tmp_path / "file", b"x" * 11)
    write_atomic(tmp_path / "file", b"x" * 10)
    assert free_bytes(tmp_path / "not" / "there" / "yet") == 10


def test_other_faults_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "file", b"")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_round_trip(value: object) -> None:
    assert json.loads(to_json(value).decode("utf-8")) == value
    assert to_json(value, indent=None).count(b"\n") == 1


def test_json_keeps_infinities_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(to_json([math.inf, -math.inf]))
    assert load_json(path) == [math.inf, -math.inf]
    assert finite({"a": [math.nan, 1.5], "b": (math.inf,)}) == {"a": [None, 1.5], "b": [None]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{\n  "a": 1,\n}', r"bad\.json:3 is not JSON: "),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 5000, "is not JSON: Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        load_json(path)
    with pytest.raises(InputError, match=r"Cannot read .*none\.json: No such file"):
        load_json(tmp_path / "none.json")


def test_a_huge_json_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)  # a hole
    with pytest.raises(InputError, match="1,099,511,627,776 bytes, which no file of a run has"):
        load_json(tmp_path / "huge.json")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "."])
def test_names_lead_nowhere_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="`name` must lie within the run directory"):
        inside(tmp_path, name)


def test_names_within(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b.json") == tmp_path / "a" / "b.json"
    assert check_name("member-03") == "member-03"


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "a b", "x" * 101, 3])
def test_plain_names_only(name: object) -> None:
    with pytest.raises(InputError, match="`name` must be a plain name"):
        check_name(name)  # type: ignore[arg-type]
