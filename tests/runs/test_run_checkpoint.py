"""Checkpoints: what is kept, what a damaged one leads to, what a kill or a full disk leaves."""

import hashlib
import json
import logging
import math
import resource
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from run_samples import crash, groups, same

from rolewise.errors import InputError, RunError
from rolewise.runs import CheckpointStore

FILES = [
    "manifest.json",
    "state.json",
    "member-00.safetensors",
    "member-01.safetensors",
    "member-02.safetensors",
]


def store_of(folder: Path, *steps: int, **options: Any) -> CheckpointStore:
    store = CheckpointStore(folder, **options)
    for step in steps:
        store.save(step, groups(step), {"step": step})
    return store


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sign(folder: Path, **changed: Any) -> None:
    """Rewrite a manifest by the words of the format: sizes, SHA-256, and a digest of all else on one line."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.update(changed)
    manifest["digest"] = hashlib.sha256(json.dumps(manifest).encode() + b"\n").hexdigest()
    path.write_text(json.dumps(manifest, indent=2))


def test_round_trip(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "a" / "b")
    assert store.latest() is None
    assert store.best() is None
    state = {"step": 7, "scores": [math.inf, -math.inf, 0.1], "nested": {"text": "größe"}}
    path = store.save(7, groups(7), state)
    found = store.latest()
    assert found is not None
    assert found.path == path == tmp_path / "a" / "b" / "ckpt-000007"
    assert same(found, 7)
    assert found.state == state
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    with pytest.raises(InputError, match=r'holds no tensors "x"\. It holds: "member-00", "member-01", '):
        found.tensors("x")


def test_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        store_of(tmp_path / name, 1)
    assert [(tmp_path / "a" / "ckpt-000001" / file).read_bytes() for file in FILES] == [
        (tmp_path / "b" / "ckpt-000001" / file).read_bytes() for file in FILES
    ]


def test_equal_members_are_stored_once(tmp_path: Path) -> None:
    source = groups(1)
    clone = {key: tensor.clone() for key, tensor in source["member-00"].items()}
    path = CheckpointStore(tmp_path).save(1, {**source, "member-03": clone}, {})
    assert sorted(file.name for file in path.glob("*.safetensors")) == [
        name for name in FILES if "member" in name
    ]
    found = CheckpointStore(tmp_path).latest()
    assert found is not None
    assert found.names == ("member-00", "member-01", "member-02", "member-03")
    assert all(torch.equal(found.tensors("member-03")[key], tensor) for key, tensor in clone.items())


def test_views_and_shared_memory(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    group = {"base": base, "same": base, "row": base[1], "turned": base.T, "none": torch.zeros(0, 3)}
    CheckpointStore(tmp_path).save(0, {"model": group}, {})
    found = CheckpointStore(tmp_path).latest()
    assert found is not None
    tensors = found.tensors("model")
    assert tensors.keys() == group.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in group.items())


def test_the_last_two_and_the_best_stay(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step, best in enumerate([False, True, False, False, True, False, False, False]):
        store.save(step, groups(step), {"step": step}, best=best)
    assert steps(tmp_path) == ["ckpt-000004", "ckpt-000006", "ckpt-000007"]
    best_one = store.best()
    assert best_one is not None
    assert best_one.best
    assert same(best_one, 4)
    assert steps(store_of(tmp_path / "one", 1, 2, 3, keep=1).folder) == ["ckpt-000003"]
    store.clear()
    assert store.latest() is None


def test_a_step_that_is_saved_again_is_the_newest(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2)
    store.save(2, groups(2), {"step": 2, "again": 1})
    store.save(2, groups(2), {"step": 2, "again": 2})
    found = store.latest()
    assert found is not None
    assert found.state["again"] == 2
    assert steps(tmp_path) == ["ckpt-000002.1", "ckpt-000002.2"]


def test_order_is_by_number(tmp_path: Path) -> None:
    found = store_of(tmp_path, 999_999, 1_000_000).latest()
    assert found is not None
    assert found.step == 1_000_000


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("cut", ["empty", "10 bytes", "half", "one byte less", "missing"])
def test_a_truncated_file_leads_to_the_checkpoint_before(tmp_path: Path, file: str, cut: str) -> None:
    said: list[str] = []
    store = store_of(tmp_path, 1, 2, note=said.append)
    path = tmp_path / "ckpt-000002" / file
    data = path.read_bytes()
    length = {
        "empty": 0,
        "10 bytes": 10,
        "half": len(data) // 2,
        "one byte less": len(data) - 1,
        "missing": -1,
    }[cut]
    if length < 0:
        path.unlink()
    else:
        path.write_bytes(data[:length])
    found = store.latest()
    assert found is not None
    if file == "manifest.json" and cut == "one byte less":
        assert same(found, 2)  # only the line end is gone: every byte that counts is there
        return
    assert same(found, 1)
    assert len(said) == 1
    assert str(tmp_path / "ckpt-000002") in said[0]
    assert file in said[0]


@settings(max_examples=150, deadline=None)
@given(file=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(file: str, place: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(_two(), folder, dirs_exist_ok=True)
        path = Path(folder) / "ckpt-000002" / file
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 1 << bit
        path.write_bytes(data)
        found = CheckpointStore(folder, note=lambda text: None).latest()
        assert found is not None
        # A manifest has blanks that may change without changing what it says.
        assert same(found, 1) or (file == "manifest.json" and same(found, 2))


_made: list[tempfile.TemporaryDirectory[str]] = []


def _two() -> Path:
    """A folder with two checkpoints, made once."""
    if not _made:
        _made.append(tempfile.TemporaryDirectory())
        store_of(Path(_made[0].name), 1, 2)
    return Path(_made[0].name)


def test_damaged_ones_are_said_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store_of(tmp_path, 1, 2)
    (tmp_path / "ckpt-000002" / "state.json").unlink()
    with caplog.at_level(logging.WARNING, "rolewise"):
        CheckpointStore(tmp_path).latest()
    assert "Skipped the checkpoint" in caplog.text


def test_if_none_is_whole_it_is_an_error_that_names_them(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2, note=lambda text: None)
    for name in steps(tmp_path):
        (tmp_path / name / "state.json").write_bytes(b"")
    with pytest.raises(
        RunError, match=r"No checkpoint in .* can be used \(.*ckpt-000002: state\.json has 0 bytes"
    ) as e:
        store.latest()
    assert "ckpt-000001" in str(e.value)
    assert "Remove that folder to restart this stage." in str(e.value)


def test_a_damaged_one_does_not_push_a_sound_one_out(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2, note=lambda text: None)
    (tmp_path / "ckpt-000002" / "state.json").unlink()
    assert store.latest() is not None
    store.save(2, groups(2), {"step": 2})
    assert steps(tmp_path) == ["ckpt-000001", "ckpt-000002.1"]
    found = CheckpointStore(tmp_path).latest()
    assert found is not None
    assert same(found, 2)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1, 2)
    sign(tmp_path / "ckpt-000002", format_version=2)
    with pytest.raises(InputError, match=r"has format version 2; this version of rolewise reads up to 1"):
        store.latest()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": "other"}, "manifest.json is not a checkpoint's"),
        ({"step": 9}, "manifest.json is that of step 9"),
    ],
)
def test_foreign_manifests(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    said: list[str] = []
    store = store_of(tmp_path, 1, 2, note=said.append)
    sign(tmp_path / "ckpt-000002", **changed)
    found = store.latest()
    assert found is not None
    assert same(found, 1)
    assert words in said[0]


def test_a_manifest_leads_nowhere_outside(tmp_path: Path) -> None:
    store = store_of(tmp_path / "c", 1)
    (tmp_path / "secret").write_bytes(b"{}")
    manifest = json.loads((tmp_path / "c" / "ckpt-000001" / "manifest.json").read_text())
    sign(tmp_path / "c" / "ckpt-000001", tensors={"member-00": "../../secret"})
    found = store.latest()
    assert found is not None
    with pytest.raises(RunError, match="Cannot read the tensors"):
        found.tensors("member-00")
    entry = {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    sign(tmp_path / "c" / "ckpt-000001", files={**manifest["files"], "../../secret": entry})
    with pytest.raises((InputError, RunError), match=r"plain name|can be used"):
        store.latest()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 8) + b"{'a': 1}",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}      ' + bytes(4),
        b"\x80\x04\x95",
    ],
    ids=["header of 2**62 bytes", "no JSON", "offsets too short", "pickle"],
)
def test_a_hostile_tensor_file_is_refused(tmp_path: Path, data: bytes) -> None:
    store = store_of(tmp_path, 1)
    (tmp_path / "ckpt-000001" / "member-01.safetensors").write_bytes(data)
    sign(tmp_path / "ckpt-000001")
    found = store.latest()
    assert found is not None
    with pytest.raises(RunError, match=r"Cannot read the tensors of .*member-01\.safetensors"):
        found.tensors("member-01")


def test_a_file_that_changes_after_verifying_is_noticed(tmp_path: Path) -> None:
    found = store_of(tmp_path, 1).latest()
    assert found is not None
    path = found.path / "member-00.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match="changed after it was verified"):
        found.tensors("member-00")


def test_killed_at_every_step_of_a_save_a_whole_checkpoint_is_there(tmp_path: Path) -> None:
    store_of(tmp_path / "start", 1, 2)
    killed = crash("save", tmp_path)
    found = []
    for point in range(1, killed + 2):
        checkpoint = CheckpointStore(tmp_path / str(point)).latest()
        assert checkpoint is not None
        assert same(checkpoint, checkpoint.step)
        found.append(checkpoint.step)
        # and it resumes from there, leaving no litter
        store_of(tmp_path / str(point), 3, 4)
        assert steps(tmp_path / str(point)) in (
            ["ckpt-000003", "ckpt-000004"],
            ["ckpt-000003.1", "ckpt-000004"],
        )
    # 5 files (before, between and after two writes; around a flush), the folder, the rename, the removal
    assert killed == 5 * (3 + 2) + 2 + 2 + 2 + 2
    assert found == sorted(found)
    assert set(found) == {2, 3}


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    store = store_of(tmp_path, 1)
    big = {"model": {"weight": torch.zeros(100_000)}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(RunError, match=r"Cannot write .*ckpt-000002: .* It needs 400,00\d bytes"):
            store.save(2, big, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert steps(tmp_path) == ["ckpt-000001"]
    found = store.latest()
    assert found is not None
    assert same(found, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, {}, {}), "`step` must be an integer at least 0, got -1"),
        ((1, {"../x": {}}, {}), "`name` must be a plain name"),
        ((1, {}, {"x": object()}), "`state` must be JSON"),
    ],
)
def test_bad_arguments_change_nothing(tmp_path: Path, arguments: tuple[Any, ...], words: str) -> None:
    store = store_of(tmp_path, 1)
    with pytest.raises(InputError, match=words):
        store.save(*arguments)
    assert steps(tmp_path) == ["ckpt-000001"]
    with pytest.raises(InputError, match="`keep` must be an integer at least 1, got 0"):
        CheckpointStore(tmp_path, keep=0)
