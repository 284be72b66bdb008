"""Folders of images: every way in which a file or a folder can be bad."""

import os
import struct
import sys
import zlib
from pathlib import Path

import pytest
from image_folders import error, load

from rolewise.config import load_config
from rolewise.data import store
from rolewise.errors import InputError
from rolewise.stages.check import check


def png_of_claimed_size(width: int, height: int) -> bytes:
    """A PNG of some bytes whose header claims so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def make_bad(root: Path) -> dict[str, str]:
    """Puts bad files into `root/train/cat`; what must be said of each, by name."""
    cat = root / "train" / "cat"
    good = (cat / "0.png").read_bytes()
    (cat / "bomb.png").write_bytes(png_of_claimed_size(60_000, 60_000))
    (cat / "cut.png").write_bytes(good[: len(good) // 2])
    (cat / "empty.jpg").write_bytes(b"")
    (cat / "large.png").write_bytes(png_of_claimed_size(10_000, 9_500))
    (cat / "script.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"
    )
    (cat / "text.png").write_text("not an image")
    (cat / "folder").mkdir()
    (cat / "gone.png").symlink_to("nowhere.png")
    (cat / "loop.png").symlink_to("loop.png")
    (cat / "up").symlink_to("..")
    os.mkfifo(cat / "pipe.png")  # opening it would wait for ever
    return {
        "bomb.png": "DecompressionBombError",
        "cut.png": "OSError: ",
        "empty.jpg": "empty",
        "folder": "a folder",
        "gone.png": "no regular file, or a link that leads nowhere",
        "large.png": "DecompressionBombWarning",
        "loop.png": "no regular file, or a link that leads nowhere",
        "pipe.png": "no regular file, or a link that leads nowhere",
        "script.eps": "no image of a known format",
        "text.png": "no image of a known format",
        "up": "a folder",
    }


def test_bad_files_are_an_error_that_names_the_first_and_the_way_out(root: Path) -> None:
    bad = make_bad(root)
    (root / "train" / "list.csv").write_text("beside the classes")
    words = error(root)
    assert words.startswith(
        f"{root / 'train'}: {len(bad) + 1} of {6 + len(bad) + 1} files cannot be used: list.csv ("
    )
    assert "cat/bomb.png (DecompressionBombError" in words
    assert (
        f" and {len(bad) + 1 - 5} more. Mend or remove them, or leave them out with `skip_bad=True`" in words
    )
    assert "(command line: --set data.skip_bad=true, or --skip-bad of `data check`)" in words


def test_bad_files_can_be_left_out_and_are_listed(root: Path) -> None:
    clean = load(root).fingerprint()
    bad = make_bad(root)
    (root / "test" / "dog" / "text.png").write_text("not an image")
    with pytest.warns(
        UserWarning, match=rf"{len(bad)} files are left out: cat/bomb.png \(.* and {len(bad) - 5} more"
    ):
        data = load(root, skip_bad=True)
    assert data.fingerprint() == clean
    assert len(data.skipped) == len(bad)
    for item, (name, why) in zip(data.skipped, bad.items(), strict=True):
        assert item.startswith(f"train/cat/{name} ({why}")
    with pytest.warns(UserWarning, match="1 file is left out: dog/text.png"):
        assert len(data.test) == 2
    assert data.skipped[-1].startswith("test/dog/text.png (no image of a known format)")


def test_bad_test_files_are_an_error_at_first_access(root: Path) -> None:
    (root / "test" / "dog" / "text.png").write_text("not an image")
    data = load(root)
    with pytest.raises(InputError, match="1 of 3 files cannot be used: dog/text.png"):
        _ = data.test


def test_a_run_looks_at_them_before_it_starts(root: Path) -> None:
    data = load(root)
    assert data.check_test is not None
    data.check_test()
    (root / "test" / "dog" / "text.png").write_text("not an image")
    words = "1 of 3 files cannot be used: dog/text.png .*--set data.skip_bad=true"
    for one in (data, data.limited(train=2)):
        assert one.check_test is not None
        with pytest.raises(InputError, match=words):
            one.check_test()
    assert "test" not in vars(data)  # nothing was decoded
    options = {"data.name": "folder", "data.root": str(root), "teacher.train.batch_size": 2}
    with pytest.raises(InputError, match=words):
        check(load_config(options=options), only="train-teacher", begun=True)
    assert load(root, skip_bad=True).check_test is None


def test_a_file_that_may_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.open

    def denying(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return original(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", denying)
    assert "2 of 6 files cannot be used: cat/1.png (PermissionError: [Errno 13] Permission denied)" in error(
        root
    )


def test_hidden_files_are_not_looked_at(root: Path) -> None:
    clean = load(root).fingerprint()
    (root / "train" / "cat" / ".DS_Store").write_bytes(b"x")
    (root / "train" / ".cache").mkdir()
    assert load(root).fingerprint() == clean


def test_an_empty_class(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    (root / "test" / "emu").mkdir()
    assert f"{root / 'train'}: no images in class emu. Add some, or remove the folder" in error(root)


def test_a_class_of_bad_files_alone_is_empty(root: Path) -> None:
    for path in (root / "train" / "cat").iterdir():
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="3 files are left out"),
        pytest.raises(InputError, match="no images in class cat"),
    ):
        load(root, skip_bad=True)


def test_classes_of_both_parts_must_agree(root: Path) -> None:
    (root / "train" / "emu").mkdir()
    (root / "test" / "cow").mkdir()
    (root / "test" / "yak").mkdir()
    assert error(root) == (
        f"{root}: train has 3 classes and test 4, which must be the same; "
        "they differ in emu (train alone), cow (test alone), yak (test alone)."
    )


def test_one_class_is_too_few(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
    assert f"{tmp_path / 'train'}: must hold at least two folders, one for each class, holds 1." in error(
        tmp_path
    )


def test_a_folder_without_its_parts(tmp_path: Path) -> None:
    assert error(tmp_path) == (
        f"`root` must be a folder with train/<class>/* and test/<class>/*; there is no folder {tmp_path / 'train'}."
    )


@pytest.mark.parametrize("size", [0, 1025])
def test_impossible_sizes(root: Path, size: int) -> None:
    with pytest.raises(InputError, match=f"`size` must be an integer from 1 to 1024, got {size}"):
        load(root, size)


def test_more_images_than_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(store.np, "empty", full)
    assert "6 images of 32 x 32 need 18,432 bytes of memory: choose a smaller `size`, or keep them" in error(
        root
    )


def test_a_folder_that_may_not_be_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    assert error(root) == f"{root / 'train'}: cannot be read: Permission denied."


def test_names_in_any_script(root: Path) -> None:
    for part in ("train", "test"):
        (root / part / "dog").rename(root / part / "собака и кот")
    assert load(root).classes == ("cat", "собака и кот")
    assert sys.getfilesystemencoding() == "utf-8"
