"""Distribution of work: claims that several processes and machines hold in one directory.

A claim is a file that names its process and host and whose time its holder renews every few seconds. It is free again
when the holder's process is gone from this host, or, on another host, when it was not renewed for two minutes. All
changes of claims are made under one file lock, so that two claimants never hold one piece of work; the run directory's
own lock also guards the work itself.
"""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from rolewise.runs import write_atomic

BEAT = 5.0  # seconds between two renewals
_GONE = 120.0  # seconds without a renewal after which a holder on another host counts as dead


class Claims:
    """The claims of one `reproduce` directory.

    Args:
        folder: folder of the claim files; made if missing.
        host: name of this machine.
        beat: seconds between two renewals of a held claim.
        gone: seconds without a renewal after which a claim of another host is free.
    """

    def __init__(
        self, folder: Path, *, host: str | None = None, beat: float = BEAT, gone: float = _GONE
    ) -> None:
        self.folder, self.host = folder, host or socket.gethostname()
        self.beat, self.gone = beat, gone
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Whether the piece of work is this process's while the context lasts."""
        path = self._path(name)
        if not self._take(path):
            yield False
            return
        ended = threading.Event()
        beats = threading.Thread(target=self._renew, args=(path, ended), daemon=True, name="rolewise-claim")
        beats.start()
        try:
            yield True
        finally:
            ended.set()
            beats.join()
            with self._lock:
                path.unlink(missing_ok=True)

    def holder(self, name: str) -> str | None:
        """The holder of a claim: "process 12 on host"; None if no live process holds it."""
        with self._lock:
            path = self._path(name)
            record = self._read(path)
            if record is None or self._dead(path, record):
                return None
            # A file that this program did not write names neither.
            return f"process {record.get('pid', 'unknown')} on {record.get('host', 'an unknown host')}"

    def _take(self, path: Path) -> bool:
        with self._lock:
            record = self._read(path)
            if record is not None and not self._dead(path, record):
                return False
            pid = os.getpid()
            mine = {"pid": pid, "host": self.host, "started": _started(pid)}
            write_atomic(path, json.dumps(mine).encode())
            return True

    def _dead(self, path: Path, record: dict[str, object]) -> bool:
        pid = record.get("pid")
        if record.get("host") == self.host and isinstance(pid, int):
            return not _alive(pid) or _started(pid) != record.get("started")
        return self._age(path) > self.gone

    def _age(self, path: Path) -> float:
        """Seconds since the last renewal, by the clock of the file system, which all machines share."""
        now = self.folder / f"clock-{self.host}-{os.getpid()}"
        now.touch()
        try:
            return now.stat().st_mtime - path.stat().st_mtime
        finally:
            now.unlink(missing_ok=True)

    def _renew(self, path: Path, ended: threading.Event) -> None:
        while not ended.wait(self.beat):
            try:
                os.utime(path)
            except FileNotFoundError:  # the directory was removed; the work itself will notice
                return
            except OSError:  # a network file system that is away for a while: the next beat tries again
                continue

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '--')}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, object] | None:
        try:
            record = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:  # not written by this program; its age decides
            return {}
        return record if isinstance(record, dict) else {}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _started(pid: int) -> str | None:
    """When the process began, so that a number that was given again is not taken for the old process (Linux)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]
