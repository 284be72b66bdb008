"""The place of a run directory: is it free, who holds it, is it one."""

import os
import socket
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rolewise.errors import InputError, RunError
from rolewise.runs.files import TEMPORARY, load_json
from rolewise.runs.layout import CONFIG, LOCK, is_own
from rolewise.runs.records import CONFIG_FILE, checked

FORMAT = "rolewise.run"
FORMAT_VERSION = 1


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `config.json` of a run directory holds: `config`, `environment`, `format`, `format_version`.

    Raises:
        InputError: not a run directory, or one of a later format.
    """
    file = Path(path) / CONFIG
    if not file.is_file():
        lacks = f"it has no {CONFIG}" if Path(path).exists() else "there is no such folder"
        raise InputError(f"{path} is not a run directory: {lacks}. `rolewise run --out DIR` makes one.")
    record = load_json(file)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f'{file} is not that of a run: its `format` must be "{FORMAT}".')
    if record.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{file} has format version {record.get('format_version')}; this version of rolewise reads up to "
            f"{FORMAT_VERSION}. Use the version that wrote it, or a later one."
        )
    checked(CONFIG_FILE, record, file)
    return record


def check_output(path: str | os.PathLike[str]) -> None:
    """Checks that writing to `path` replaces nothing that a run directory needs: results, logs, schedules, networks.

    Raises:
        InputError: it would.
    """
    target = Path(path).resolve()
    network = target.suffix in (".safetensors", ".json") and target.with_suffix(".safetensors").exists()
    for folder in target.parents:
        try:
            read_config(folder)
        except InputError:
            continue
        if network or is_own(target.relative_to(folder).as_posix()):
            raise InputError(f"{path} belongs to the run {folder}. Choose another name.")


def refuse_used(folder: Path) -> None:
    """Refuses a directory that holds anything as the place of a new run."""
    if folder.is_dir():
        found = [
            name for name in sorted(os.listdir(folder)) if name != LOCK and not name.startswith(TEMPORARY)
        ]
        if CONFIG in found:
            raise InputError(
                f"`--out` {folder} already holds a run. Resume it with `--resume {folder}`, "
                "or name another directory."
            )
        if found:
            raise InputError(
                f'`--out` {folder} must be new or empty, but it holds "{found[0]}". Name another directory.'
            )
    elif folder.exists() or folder.is_symlink():
        raise InputError(f"`--out` {folder} must be a directory, but it is something else. Name another one.")


def acquire(folder: Path) -> FileLock:
    """The lock of `folder`, with this process and host written into it.

    The system lets go of the lock when its holder dies, so a lock file that was left is taken over as it is.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        holder = (folder / LOCK).read_text("utf-8", "replace").strip() or "another process"
        raise RunError(
            f"{folder} is in use by {holder}. Wait until it ends, or stop it; then try again."
        ) from error
    try:
        (folder / LOCK).write_text(f"process {os.getpid()} on {socket.gethostname()}\n", "utf-8")
    except BaseException:
        lock.release()
        raise
    return lock
