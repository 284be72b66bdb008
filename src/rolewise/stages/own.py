"""Own code of a run (data set, networks, loss): recorded with its digest, copied into the run, checked at a resume."""

from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from rolewise.config import Config, flat, parse_config
from rolewise.errors import InputError
from rolewise.own_code import find_own_code, is_own_code
from rolewise.progress import Progress
from rolewise.runs import RunDirectory, layout, write_atomic
from rolewise.runs.records import OWN_CODE_FILE, checked

_KINDS = {
    "data.name": "data set",
    "teacher.network": "network",
    "student.network": "network",
    "kd.loss": "loss",
}
Records = dict[str, dict[str, str]]


def absolute(config: Config) -> Config:
    """The settings with own code named by absolute paths, so that a run can be resumed from any directory.

    Raises:
        InputError: no such file.
    """
    tree: dict[str, Any] = config.model_dump()
    for key in _specs(tree):
        section, name = key.split(".")
        path, member = find_own_code(tree[section][name], _KINDS[key])
        tree[section][name] = f"{path}:{member}"
    return parse_config(tree)


def records(config: Config) -> Records:
    """Path, name and SHA-256 of each piece of own code, by its setting; nothing is run."""
    found: Records = {}
    for key, spec in _specs(config.model_dump()).items():
        path, name = find_own_code(spec, _KINDS[key])
        found[key] = {"path": str(path), "name": name, "sha256": sha256(path.read_bytes()).hexdigest()}
    return found


def keep(run: RunDirectory, config: Config, progress: Progress) -> None:
    """Writes the records and a copy of each file into the run directory, and says what is run."""
    found = records(config)
    for key, record in found.items():
        path = Path(record["path"])
        record["copy"] = f"{layout.CODE}/{path.stem}-{record['sha256'][:8]}.py"
        target = run.file(record["copy"])
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            write_atomic(target, path.read_bytes())
        progress.note(
            f"own code, {key}: {record['path']}, {record['name']}, SHA-256 {record['sha256'][:16]}..."
        )
    if found:
        run.write_json(layout.OWN_CODE, found)


def check_unchanged(
    folder: str | Path, config: Config, named: Mapping[str, Any], *, only: Collection[str] = ()
) -> None:
    """Before own code of a run that exists is run: it must be what the run recorded, unless the user names it again.

    Args:
        folder: the run directory.
        config: the settings that are about to be used.
        named: settings that the user gave now, by dotted name; those are the user's own word.
        only: the settings whose code is about to be run; empty is all.

    Raises:
        InputError: a file that lies within the run directory, is gone, or has changed since.
    """
    known = read_records(folder)
    for key, spec in _specs(config.model_dump()).items():
        if named.get(key) is not None or (only and key not in only):
            continue
        option = _OPTIONS[key]
        again = f"Look at it, and name it again to run it: {option} FILE.py:NAME."
        try:
            path, _ = find_own_code(spec, _KINDS[key])
        except InputError as error:
            copy = known.get(key, {}).get("copy")
            there = f" A copy of what the run used is {Path(folder) / copy}." if copy else ""
            raise InputError(f"{error}{there} {again}") from None
        if path.is_relative_to(Path(folder).resolve()):
            raise InputError(f"`{key}`: {path} lies within the run directory, so it came with it. {again}")
        if key in known and sha256(path.read_bytes()).hexdigest() != known[key]["sha256"]:
            raise InputError(f"`{key}`: {path} has changed since {folder} was started. {again}")
        if key not in known:
            raise InputError(f"`{key}`: {folder} has no record of {path}. {again}")


def rewritten(folder: str | Path, config: Config) -> set[str]:
    """The settings whose file is where the run recorded it and holds other code now."""
    known, found = read_records(folder), records(config)
    return {
        key
        for key, one in found.items()
        if key in known and one["path"] == known[key]["path"] and one["sha256"] != known[key]["sha256"]
    }


def same_code(folder: str | Path, key: str, spec: object) -> bool:
    """Whether a setting names the same code as the run's records, wherever the file lies now."""
    known = read_records(folder).get(key)
    if known is None or not isinstance(spec, str) or not is_own_code(spec):
        return False
    path, name = find_own_code(spec, _KINDS[key])
    return name == known["name"] and sha256(path.read_bytes()).hexdigest() == known["sha256"]


def read_records(folder: str | Path) -> Records:
    """What `keep` wrote; nothing for a run without own code.

    Raises:
        InputError: the file is damaged.
    """
    run = RunDirectory.open(folder, read_only=True)
    path = run.file(layout.OWN_CODE)
    if not path.exists():
        return {}
    found: Records = run.read_json(layout.OWN_CODE)
    checked(OWN_CODE_FILE, found, path)
    return found


_OPTIONS = {
    "data.name": "--data",
    "teacher.network": "--network",
    "student.network": "--student-network",
    "kd.loss": "--kd",
}


def _specs(tree: Mapping[str, Any]) -> dict[str, str]:
    values = flat(tree)
    return {key: str(values[key]) for key in _KINDS if values.get(key) and is_own_code(str(values[key]))}
