"""Downloads the CIFAR archives: resumed, bounded, verified, and in place whole or not at all."""

import errno
import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from rolewise.data.cifar_files import CIFAR, URL, Form
from rolewise.errors import InputError, RunError, unknown

_PROGRESS = 2**20  # bytes after which an attempt counts as a success of its own
_CHUNK = 2**18
_MAX_PAUSE = 30.0  # seconds
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AGAIN = (408, 425, 429)  # statuses below 500 that may pass


@dataclass(frozen=True)
class Bounds:
    """When a download gives up.

    Args:
        limit: most bytes to accept; the real archives have 161 to 163 MiB.
        attempts: number of attempts in a row that may break off with less than 1 MiB of progress.
        pause: seconds before the second of them, doubled each time up to 30.
        timeout: seconds without a byte after which a connection counts as lost.
    """

    limit: int = 256 * 2**20
    attempts: int = 6
    pause: float = 1.0
    timeout: float = 30.0


class _Retry(Exception):  # noqa: N818 - the transfer broke off; the words say how
    """Worth another attempt."""


def fetch(
    name: str,
    root: Path,
    *,
    url: str | None = None,
    report: Callable[[int, int | None], None] = lambda done, total: None,
    note: Callable[[str], None] = lambda text: None,
) -> Path:
    """Downloads the archive of a data set into `root`, or verifies the one that is there; returns its path.

    Args:
        name: "cifar10" or "cifar100".
        root: the folder for the archive; made if need be.
        url: alternative source, http or https; a file name that ends in the name of the Python archive gets
            that, any other the binary one. Its checksum must be the published one.
        report: callback for progress: bytes so far, bytes in all (None: the server does not say).
        note: callback for messages to a person, one line each.
    Raises:
        InputError: an unknown name or URL, or an archive at its place that is another one.
        RunError: the download failed; the bytes received are kept and the next call resumes from there.
    """
    if name not in CIFAR:
        raise InputError(unknown("data set to fetch", name, CIFAR))
    form = _form(name, url)
    target = root / form.archive
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"`root`: {root} cannot be made ({error.strerror}).") from None
    Download(url or URL + form.archive, target, form.archive_md5, report=report, note=note).run()
    return target


def _form(name: str, url: str | None) -> Form:
    forms = CIFAR[name].forms
    last = urllib.parse.urlsplit(url or "").path.rpartition("/")[2]
    return next((form for form in forms if form.archive == last), forms[0])


class Download:
    """One file from one URL; `run` brings it to its place.

    Args:
        url: http or https.
        target: path of the finished file; `.part` and `.part.lock` lie next to it meanwhile.
        md5: required MD5 sum, hex.
        report: callback for progress: bytes so far, bytes in all (None: the server does not say).
        note: callback for messages to a person, one line each.
        bounds: limits at which to give up.
    """

    def __init__(
        self,
        url: str,
        target: Path,
        md5: str,
        *,
        report: Callable[[int, int | None], None] = lambda done, total: None,
        note: Callable[[str], None] = lambda text: None,
        bounds: Bounds | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"`url` must be http://... or https://..., got {url!r}.")
        self.url, self.target, self.md5 = url, target, md5
        self.part = target.with_name(target.name + ".part")
        self.report, self.note = report, note
        self.bounds = Bounds() if bounds is None else bounds
        self.resumable = True  # until the server shows that it is not

    def run(self) -> None:
        """Downloads, verifies, and renames. Does nothing but verify if the file is there."""
        lock = self.part.with_name(self.part.name + ".lock")
        try:
            with FileLock(lock, timeout=0):
                self._run()
                lock.unlink(missing_ok=True)
        except Timeout:
            raise RunError(f"{self.target}: another process is downloading it (it holds {lock}).") from None

    def _run(self) -> None:
        if self.target.exists():
            if (got := _md5(self.target)) != self.md5:
                raise InputError(
                    f"{self.target}: is there already, but is not the published file "
                    f"(MD5 {got}, not {self.md5}). Move it away and fetch again."
                )
            return
        # A part from an earlier call may be of another file: if the sum is wrong, one whole download decides.
        continued = self._size() > 0
        self._transfer()
        if continued and _md5(self.part) != self.md5:
            self.note(f"{self.part.name}, from an earlier download, cannot be used; starting from scratch")
            self.part.unlink()
            self._transfer()
        if (got := _md5(self.part)) != self.md5:
            self.part.unlink()
            raise RunError(
                f"{self.url}: what the server sent is not the published file (MD5 {got}, not {self.md5}); "
                "it was removed. Try again later, or another --url."
            )
        with self.part.open("rb") as stream:
            os.fsync(stream.fileno())
        self.part.replace(self.target)
        _sync_folder(self.target.parent)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _transfer(self) -> None:
        """Attempts until the server has sent all."""
        failures, pause, mark = 0, self.bounds.pause, self._size()
        while True:
            try:
                return self._attempt()
            except _Retry as error:
                why = str(error)
            if self._size() >= mark + _PROGRESS:
                failures, pause = 0, self.bounds.pause
            mark, failures = self._size(), failures + 1
            if failures >= self.bounds.attempts:
                raise RunError(
                    f"{self.url}: {why}, after {failures} attempts. {self.part} keeps {mark:,} bytes; "
                    "the same command resumes from there."
                )
            self.note(f"{why}; trying again in {pause:g} s")
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)

    def _attempt(self) -> None:
        """One connection: from where the part ends to the end of the file."""
        offset = self._size() if self.resumable else 0
        # "identity": a server that compresses on the fly answers with the whole and not with a range.
        headers = {"User-Agent": "rolewise", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            request = urllib.request.Request(self.url, headers=headers)
            with urllib.request.urlopen(request, timeout=self.bounds.timeout) as response:
                start, total = self._range(response, offset)
                self._check_size(start, total)
                self._receive(response, start, total)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, offset)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise RunError(f"{self.url}: the server's certificate does not hold ({reason}).") from None
            raise _Retry(f"the connection failed ({reason or type(error).__name__})") from None

    def _refused(self, error: urllib.error.HTTPError, offset: int) -> None:
        """An answer other than success: final, or worth another attempt; or the part is whole already."""
        if error.code == 416 and offset:
            if error.headers.get("Content-Range", "") == f"bytes */{offset}":
                return
            self.part.unlink()
            raise _Retry("the part was longer than the file, starting from scratch") from None
        if error.code >= 500 or error.code in _AGAIN:
            raise _Retry(f"the server answers {error.code} ({error.reason})") from None
        raise RunError(
            f"{self.url}: the server answers {error.code} ({error.reason}). Try another --url."
        ) from None

    def _range(self, response: http.client.HTTPResponse, offset: int) -> tuple[int, int | None]:
        """(first byte, bytes in all) of what the server is about to send."""
        if response.status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != offset:
                # Appending bytes from elsewhere in the file would corrupt it.
                self.resumable = False
                raise _Retry("the server sends another range than requested, starting from scratch")
            return offset, None if found[2] == "*" else int(found[2])
        if offset:
            self.note("the server cannot resume, so the download starts from scratch")
            self.resumable = False
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None

    def _check_size(self, start: int, total: int | None) -> None:
        if total is None:
            return
        if total > self.bounds.limit:
            raise RunError(
                f"{self.url}: has {total:,} bytes, more than the {self.bounds.limit:,} that it may have."
            )
        free = shutil.disk_usage(self.part.parent).free
        if total - start > free:
            raise self._no_space(total - start, f"{free:,} are free")

    def _no_space(self, need: int, state: str) -> RunError:
        return RunError(
            f"{self.part.parent}: no space: {need:,} more bytes are needed, {state}. Make room, or choose "
            f"another --data-root; {self._size():,} bytes are kept, and the same command resumes from there."
        )

    def _receive(self, response: http.client.HTTPResponse, start: int, total: int | None) -> None:
        done = start
        with self._open(start) as out:
            # `read1`, not `read`: what came before a connection fell silent is written and not lost.
            while chunk := response.read1(_CHUNK):
                done += len(chunk)
                if done > self.bounds.limit:
                    self.part.unlink()
                    raise RunError(
                        f"{self.url}: sends more than the {self.bounds.limit:,} bytes that it may have."
                    )
                try:
                    out.write(chunk)
                except OSError as error:
                    raise self._write_failed(error, done, total) from None
                self.report(done, total)
        # It returns nothing, and raises nothing, when a connection ends early.
        if total is not None and done < total:
            raise _Retry(f"the connection ended after {done:,} of {total:,} bytes")

    def _open(self, start: int) -> IO[bytes]:
        try:
            return self.part.open("ab" if start else "wb", buffering=0)
        except OSError as error:
            raise RunError(f"{self.part}: cannot be written ({error.strerror}).") from None

    def _write_failed(self, error: OSError, done: int, total: int | None) -> RunError:
        if error.errno in _NO_SPACE:
            return self._no_space((total or done) - self._size(), error.strerror or "the disk is full")
        return RunError(f"{self.part}: cannot be written ({error.strerror}).")


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable, where folders can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
