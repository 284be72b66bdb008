"""Archives are read in memory, and hostile ones refused."""

import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_cifar
from peak_memory import peak

from rolewise.data.archive import MAX_MEMBERS, read_members
from rolewise.errors import InputError

GOOD = {"set/one": b"1" * 700, "set/two": b"2" * 30, "set/three": b""}


def packed(folder: Path, raw: bytes) -> Path:
    inside = folder / "inside"
    inside.mkdir()
    path = inside / "set.tar.gz"
    path.write_bytes(raw)
    return path


def refused(
    path: Path, words: str, wanted: tuple[str, ...] = ("set/one", "set/last"), limit: int = 2**20
) -> None:
    before = sorted(path.parents[1].rglob("*"))
    with pytest.raises(InputError) as caught:
        list(read_members(path, wanted, limit))
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("Nothing was unpacked. Delete the archive and fetch it again.")
    assert sorted(path.parents[1].rglob("*")) == before


def test_wanted_files_come_in_the_order_of_the_archive(tmp_path: Path) -> None:
    path = packed(tmp_path, tiny_cifar.archive(GOOD))
    assert list(read_members(path, ["set/two", "set/one"])) == [
        ("set/one", b"1" * 700),
        ("set/two", b"2" * 30),
    ]
    assert list(read_members(path, ["set/three"])) == [("set/three", b"")]
    assert [entry.name for entry in tmp_path.rglob("*") if entry.is_file()] == ["set.tar.gz"]


def test_names_may_begin_with_a_dot(tmp_path: Path) -> None:
    path = packed(tmp_path, tiny_cifar.archive({"./" + name: raw for name, raw in GOOD.items()}))
    assert list(read_members(path, ["set/two"])) == [("set/two", b"2" * 30)]


def special(kind: bytes, name: str = "set/x", link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (special(tarfile.REGTYPE, "../evil"), 'a path that leads elsewhere, "../evil"'),
        (special(tarfile.REGTYPE, "set/../../evil"), 'a path that leads elsewhere, "set/../../evil"'),
        (special(tarfile.REGTYPE, "set\\..\\evil"), "a path that leads elsewhere"),
        (special(tarfile.REGTYPE, "/tmp/evil"), 'a path that leads elsewhere, "/tmp/evil"'),
        (special(tarfile.REGTYPE, "C:/evil"), 'a path that leads elsewhere, "C:/evil"'),
        (special(tarfile.DIRTYPE, ".."), "a path that leads elsewhere"),
        (
            special(tarfile.SYMTYPE, "set/last", "/etc/passwd"),
            'a link, a device or another special file, "set/last"',
        ),
        (special(tarfile.LNKTYPE, "set/last", "set/one"), "a link, a device or another special file"),
        (special(tarfile.CHRTYPE), "a link, a device or another special file"),
        (special(tarfile.BLKTYPE), "a link, a device or another special file"),
        (special(tarfile.FIFOTYPE), "a link, a device or another special file"),
        (special(tarfile.REGTYPE, "set/one"), "holds set/one twice"),
    ],
)
def test_members_with_no_business_there(tmp_path: Path, member: tarfile.TarInfo, words: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("set/one")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
        tar.addfile(member)
    refused(packed(tmp_path, out.getvalue()), words)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def bomb_of_zeros() -> bytes:
    return gzip.compress(header("set/zeros", 50 * 2**20) + bytes(50 * 2**20))


def claims_a_terabyte() -> bytes:
    return gzip.compress(header("set/one", 2**40) + bytes(4096))


def bomb_in_a_long_name() -> bytes:
    return gzip.compress(header("././@LongLink", 40 * 2**20, tarfile.GNUTYPE_LONGNAME) + b"a" * (40 * 2**20))


def bomb_in_a_pax_header() -> bytes:
    return gzip.compress(header("x", 40 * 2**20, tarfile.XHDTYPE) + b"1" * (40 * 2**20))


@pytest.mark.parametrize("bomb", [bomb_of_zeros, bomb_in_a_long_name, bomb_in_a_pax_header])
def test_bombs_stop_at_the_limit(tmp_path: Path, bomb: Callable[[], bytes]) -> None:
    raw = bomb()
    assert len(raw) < 2**20
    path = packed(tmp_path, raw)
    assert peak(lambda: refused(path, "unpacks to more than 1,048,576 bytes")) < 8 * 2**20


def test_a_size_that_is_not_there_allocates_nothing(tmp_path: Path) -> None:
    path = packed(tmp_path, claims_a_terabyte())
    assert peak(lambda: refused(path, "is no tar.gz, or a damaged one")) < 8 * 2**20


def test_too_many_members(tmp_path: Path) -> None:
    path = packed(tmp_path, tiny_cifar.archive({f"set/{n}": b"" for n in range(MAX_MEMBERS + 1)}))
    refused(path, f"holds more than {MAX_MEMBERS} files")


def test_nested_long_names(tmp_path: Path) -> None:
    one = header("././@LongLink", 1, tarfile.GNUTYPE_LONGNAME) + b"a" + bytes(511)
    refused(packed(tmp_path, gzip.compress(one * 900)), "")


def test_a_sparse_member(tmp_path: Path) -> None:
    raw = bytearray(header("set/one", 0, tarfile.GNUTYPE_SPARSE))
    raw[386:482] = (b"%011o\0" % 0 + b"%011o\0" % 0).ljust(96, b"\0")
    raw[483:495] = b"%011o\0" % 2**32  # a file of 4 GiB that takes no room
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    refused(
        packed(tmp_path, gzip.compress(bytes(raw) + bytes(1024))), "a link, a device or another special file"
    )


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is no tar.gz, or a damaged one"),
        (b"hello, not an archive", "is no tar.gz, or a damaged one"),
        (gzip.compress(b"hello, not an archive" * 100), "is no tar.gz, or a damaged one"),
        (tiny_cifar.archive(GOOD), "does not hold set/last"),
    ],
    ids=["empty", "text", "packed text", "other files"],
)
def test_what_is_no_such_archive(tmp_path: Path, raw: bytes, words: str) -> None:
    refused(packed(tmp_path, raw), words)


def test_truncation_anywhere(tmp_path: Path) -> None:
    raw = tiny_cifar.archive({"set/one": bytes(range(256)) * 4})
    path = packed(tmp_path, raw)
    for length in range(0, len(raw) - 60, 3):
        path.write_bytes(raw[:length])
        refused(path, "", ("set/one",))


def test_a_damaged_stream(tmp_path: Path) -> None:
    raw = bytearray(tiny_cifar.archive({"set/one": struct.pack("<500I", *range(500))}))
    raw[len(raw) // 2] ^= 0xFF
    refused(packed(tmp_path, bytes(raw)), "", ("set/one", "set/two"))


def test_an_archive_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("rolewise.data.archive.gzip.open", denied)
    path = packed(tmp_path, b"")
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        list(read_members(path, ["set/one"]))
