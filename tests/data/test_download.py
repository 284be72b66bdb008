"""Downloads, from a server on this machine that misbehaves on demand."""

import hashlib
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from download_server import BODY, Server
from filelock import FileLock

from rolewise.data import fetch as fetching
from rolewise.data.fetch import Bounds, Download
from rolewise.errors import InputError, RunError

MD5 = hashlib.md5(BODY).hexdigest()


class Job:
    """A download into a temporary folder, with what it said."""

    def __init__(self, server: Server, folder: Path, **bounds: Any) -> None:
        self.target = folder / "set.tar.gz"
        self.part = folder / "set.tar.gz.part"
        self.notes: list[str] = []
        self.progress: list[tuple[int, int | None]] = []
        bounds = {"pause": 0.001, "timeout": 5.0, "attempts": 3, **bounds}
        self.make: Callable[[], Download] = lambda: Download(
            server.url,
            self.target,
            MD5,
            report=lambda done, total: self.progress.append((done, total)),
            note=self.notes.append,
            bounds=Bounds(**bounds),
        )

    def run(self) -> None:
        self.make().run()
        assert self.target.read_bytes() == BODY
        assert [entry.name for entry in self.target.parent.iterdir()] == ["set.tar.gz"]

    def error(self, kind: type[Exception] = RunError) -> str:
        with pytest.raises(kind) as caught:
            self.make().run()
        assert not self.target.exists() or kind is InputError
        return str(caught.value)


@pytest.fixture
def job(server: Server, tmp_path: Path) -> Job:
    return Job(server, tmp_path)


def test_a_plain_download(server: Server, job: Job) -> None:
    job.run()
    assert server.requests == [None]
    assert server.headers[0]["Accept-Encoding"] == "identity"
    assert job.notes == []
    assert job.progress[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in job.progress] == sorted(done for done, _ in job.progress)
    job.run()  # there already: verified, not fetched
    assert server.requests == [None]


def test_a_connection_that_breaks_is_resumed_where_it_broke(server: Server, job: Job) -> None:
    server.breaks = [300_000, 200_000]
    job.run()
    assert server.requests == [None, "bytes=300000-", "bytes=500000-"]
    assert job.notes == [
        "the connection ended after 300,000 of 1,048,576 bytes; trying again in 0.001 s",
        "the connection ended after 500,000 of 1,048,576 bytes; trying again in 0.002 s",
    ]


def test_a_later_call_resumes_what_an_earlier_one_left(server: Server, job: Job) -> None:
    server.breaks = [300_000, 0, 0]
    words = job.error()
    assert words == (
        f"{server.url}: the connection ended after 300,000 of 1,048,576 bytes, after 3 attempts. "
        f"{job.part} keeps 300,000 bytes; the same command resumes from there."
    )
    assert job.part.read_bytes() == BODY[:300_000]
    job.run()
    assert server.requests[-1] == "bytes=300000-"


def test_progress_renews_the_attempts(server: Server, tmp_path: Path) -> None:
    server.body = BODY * 8
    job = Job(server, tmp_path, attempts=2)
    server.breaks = [2**20, 2**20, 2**20, 10]
    assert "after 2 attempts" in job.error()
    assert job.part.stat().st_size == 3 * 2**20 + 10


def test_a_server_that_cannot_resume(server: Server, job: Job) -> None:
    server.ranges = False
    server.breaks = [300_000]
    job.run()
    assert server.requests == [None, "bytes=300000-"]
    assert "the server cannot resume, so the download starts from scratch" in job.notes


def test_a_server_that_sends_another_range(server: Server, job: Job) -> None:
    server.shift = 5
    server.breaks = [300_000]
    job.run()
    assert server.requests == [None, "bytes=300000-", None]
    assert any(note.startswith("the server sends another range than requested") for note in job.notes)


def test_a_part_that_is_whole_already(server: Server, job: Job) -> None:
    job.part.write_bytes(BODY)
    job.run()
    assert server.requests == [f"bytes={len(BODY)}-"]


def test_a_part_that_is_too_long(server: Server, job: Job) -> None:
    job.part.write_bytes(BODY + b"x")
    job.run()
    assert server.requests == [f"bytes={len(BODY) + 1}-", None]


def test_a_part_of_another_file_costs_one_more_download(server: Server, job: Job) -> None:
    job.part.write_bytes(b"x" * 1000)
    job.run()
    assert server.requests == ["bytes=1000-", None]
    assert job.notes == ["set.tar.gz.part, from an earlier download, cannot be used; starting from scratch"]


def test_a_wrong_checksum(server: Server, job: Job) -> None:
    server.body = BODY[:-1] + b"x"
    got = hashlib.md5(server.body).hexdigest()
    assert job.error() == (
        f"{server.url}: what the server sent is not the published file (MD5 {got}, not {MD5}); "
        "it was removed. Try again later, or another --url."
    )
    assert not job.part.exists()
    assert len(server.requests) == 1


def test_another_file_at_the_place_is_kept(server: Server, job: Job) -> None:
    job.target.write_bytes(b"mine")
    got = hashlib.md5(b"mine").hexdigest()
    assert job.error(InputError) == (
        f"{job.target}: is there already, but is not the published file (MD5 {got}, not {MD5}). "
        "Move it away and fetch again."
    )
    assert job.target.read_bytes() == b"mine"
    assert server.requests == []


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_statuses_that_end_it(server: Server, job: Job, status: int) -> None:
    server.statuses = [status]
    assert f"{server.url}: the server answers {status} (" in job.error()
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_statuses_that_pass(server: Server, job: Job, status: int) -> None:
    server.statuses = [status, 200]
    job.run()
    assert len(server.requests) == 2
    assert f"the server answers {status} (" in job.notes[0]


def test_a_status_that_stays(server: Server, job: Job) -> None:
    server.statuses = [503] * 9
    assert "the server answers 503 (Service Unavailable), after 3 attempts." in job.error()
    assert len(server.requests) == 3


def test_a_connection_without_a_byte(server: Server, tmp_path: Path) -> None:
    job = Job(server, tmp_path, timeout=2.0)  # also what the next answer may take
    server.hangs = [100_000]
    job.run()
    assert server.requests == [None, "bytes=100000-"]
    assert job.notes == ["the connection failed (timed out); trying again in 0.001 s"]


def test_no_server(server: Server, job: Job) -> None:
    server.close()
    words = job.error()
    assert "the connection failed (" in words
    assert "Connection refused), after 3 attempts" in words


def test_a_file_that_is_announced_too_large(server: Server, tmp_path: Path) -> None:
    job = Job(server, tmp_path, limit=1000)
    assert job.error() == f"{server.url}: has 1,048,576 bytes, more than the 1,000 that it may have."
    assert not job.part.exists()


def test_a_stream_without_end(server: Server, tmp_path: Path) -> None:
    job = Job(server, tmp_path, limit=300_000)
    server.length = -1
    assert job.error() == f"{server.url}: sends more than the 300,000 bytes that it may have."
    assert not job.part.exists()


def test_a_server_that_does_not_say_the_length(server: Server, job: Job) -> None:
    server.length = -1
    job.run()
    assert job.progress[-1] == (len(BODY), None)


def test_too_little_space_is_seen_before(server: Server, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(job.target.parent)._replace(free=1_000_000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: free)
    assert job.error() == (
        f"{job.target.parent}: no space: 1,048,576 more bytes are needed, 1,000,000 are free. "
        "Make room, or choose another --data-root; 0 bytes are kept, and the same command resumes from there."
    )


def test_space_that_runs_out_keeps_what_came(server: Server, job: Job) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    try:
        words = job.error()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = job.part.stat().st_size
    assert 500_000 < kept <= 600_000
    assert f"no space: {len(BODY) - kept:,} more bytes are needed, File too large. Make room" in words
    job.run()
    assert server.requests == [None, f"bytes={kept}-"]


def test_a_folder_that_may_not_be_written(server: Server, job: Job) -> None:
    job.part.mkdir()
    assert f"{job.part}: cannot be written (Is a directory)." in job.error()


def test_two_downloads_of_one_file(job: Job) -> None:
    lock = job.part.with_name("set.tar.gz.part.lock")
    with FileLock(lock):
        assert job.error() == f"{job.target}: another process is downloading it (it holds {lock})."


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "set.tar.gz", "http:///set.tar.gz"])
def test_other_urls_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError) as caught:
        Download(url, tmp_path / "x", MD5)
    assert str(caught.value) == f"`url` must be http://... or https://..., got {url!r}."
