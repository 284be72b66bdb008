"""Reads chosen files out of a tar.gz, in memory; nothing is unpacked."""

import gzip
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, cast

from rolewise.errors import InputError

MAX_MEMBERS = 64
MAX_UNPACKED = 256 * 2**20  # bytes; the largest real archive unpacks to 187 million


def read_members(
    path: Path, wanted: Collection[str], limit: int = MAX_UNPACKED
) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of the wanted regular files in the order of the archive, then stops reading.

    The archive is read as a stream and only these contents are kept; no path of it is ever used as a path.

    Args:
        wanted: full names within the archive, such as "cifar-10-batches-py/data_batch_1".
        limit: most bytes that the archive may unpack to, including headers and files that are not needed.
    Raises:
        InputError: not a tar.gz, damaged, larger than the limit, a wanted file missing or twice there, or a
            member that such an archive has no business to hold (a link, a device, a path that leads
            elsewhere).
    """
    missing = set(wanted)
    try:
        with (
            gzip.open(path) as unpacked,
            tarfile.open(fileobj=cast(IO[bytes], _Bounded(unpacked, limit)), mode="r|", bufsize=2**20) as tar,
        ):
            for count, member in enumerate(tar, 1):
                _check(path, count, member)
                name = member.name.removeprefix("./")
                if name not in wanted:
                    continue
                if name not in missing:
                    raise InputError(f"{path}: holds {name} twice. {_WAY_OUT}")
                content = tar.extractfile(member)
                raw = content.read() if content else b""
                if len(raw) != member.size:
                    raise InputError(f"{path}: {name} is truncated. {_WAY_OUT}")
                missing.discard(name)
                yield name, raw
                if not missing:
                    return
    except _TooLargeError:
        raise InputError(f"{path}: unpacks to more than {limit:,} bytes. {_WAY_OUT}") from None
    except InputError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no tar.gz, or a damaged one ({error}). {_WAY_OUT}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    raise InputError(f"{path}: does not hold {', '.join(sorted(missing))}. {_WAY_OUT}")


_WAY_OUT = "Nothing was unpacked. Delete the archive and fetch it again."


def _check(path: Path, count: int, member: tarfile.TarInfo) -> None:
    parts = member.name.replace("\\", "/").split("/")
    shown = member.name[:100]
    if count > MAX_MEMBERS:
        raise InputError(f"{path}: holds more than {MAX_MEMBERS} files. {_WAY_OUT}")
    if member.name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise InputError(f'{path}: holds a path that leads elsewhere, "{shown}". {_WAY_OUT}')
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise InputError(f'{path}: holds a link, a device or another special file, "{shown}". {_WAY_OUT}')


class _TooLargeError(Exception):
    """The archive unpacks to more than its limit."""


class _Bounded:
    """A reader that gives up after so many bytes, before it allocates for them."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self.stream = stream
        self.left = limit

    def read(self, size: int) -> bytes:
        """At most `size` bytes, all of them counted."""
        if size > self.left:
            size = self.left + 1
        raw = self.stream.read(size)
        self.left -= len(raw)
        if self.left < 0:
            raise _TooLargeError
        return raw
