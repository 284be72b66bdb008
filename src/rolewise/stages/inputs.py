"""The files that a run was given: copied into its directory, so that it can be moved and resumed from anywhere.

Own code, which is run as a program, has rules of its own: `stages.own`.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rolewise._roles import A_T
from rolewise.augment import NAMED
from rolewise.config import Config, changed, flat
from rolewise.errors import InputError, check_path
from rolewise.runs import RunDirectory, file_digest, layout, read_inputs

_ROOT = "data.root"


# Settings that may name a file, and the words that name none.
_FILES: dict[str, Collection[str]] = {
    "teacher.file": (),
    "teacher.weights": (),
    "teacher.schedule": NAMED,
    "student.schedule": NAMED,
    "search.warm_start": (A_T,),
}


def _named(config: Config) -> dict[str, Path]:
    """The files that the settings name, by setting."""
    values = flat(config.model_dump())
    return {
        setting: Path(values[setting])
        for setting, words in _FILES.items()
        if values[setting] is not None and values[setting] not in words
    }


def _with_files(config: Config, files: dict[str, Path]) -> Config:
    """The settings with other files in the place of those that they name."""
    values = {setting: str(file) for setting, file in files.items()}
    return changed(config.model_dump(), values) if values else config


def absolute(config: Config, only: Collection[str] | None = None) -> Config:
    """The settings with absolute names of files, and of the folder of the data.

    Args:
        config: settings.
        only: dotted names of the settings to look at; None is all.
    """
    wanted = {name: file for name, file in _named(config).items() if only is None or name in only}
    config = _with_files(config, {name: check_path(name, file).resolve() for name, file in wanted.items()})
    root = config.data.root
    if root is None or (only is not None and _ROOT not in only):
        return config
    return changed(config.model_dump(), {_ROOT: str(check_path(_ROOT, root).resolve())})


def keep(run: RunDirectory, config: Config) -> None:
    """Copies the files that the settings name into the run directory, with their SHA-256; those there already stay."""
    known = read_inputs(run.file(layout.INPUTS))
    records: dict[str, Any] = {}
    for setting, file in _named(config).items():
        record = known.get(setting)
        stale = record is None or record["path"] != str(file)
        if (
            stale
            and record is not None
            and file.is_relative_to(run.file(layout.input_folder(setting)).resolve())
        ):
            records[setting] = {**record, "path": str(file)}  # the copy itself was named
        else:
            records[setting] = _copy(run, setting, file) if stale else record
    if records != known:
        run.write_json(layout.INPUTS, records)


def _copy(run: RunDirectory, setting: str, file: Path) -> dict[str, Any]:
    folder = run.file(layout.input_folder(setting))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parts = sorted(file.iterdir()) if file.is_dir() else [file, file.with_suffix(".json")]
    target = folder / file.name if file.is_dir() else folder
    target.mkdir(exist_ok=True)
    digests = {}
    for part in parts:
        if part.is_file():
            shutil.copyfile(part, target / part.name)
            digests[(target / part.name).relative_to(run.path).as_posix()] = file_digest(target / part.name)
    return {
        "path": str(file),
        "name": (folder / file.name).relative_to(run.path).as_posix(),
        "files": digests,
    }


def placed(run: RunDirectory, config: Config) -> Config:
    """The settings with the copies in the place of the files that were named; own code stays where it was named.

    Raises:
        InputError: a copy was changed or lost since.
    """
    files, named = {}, _named(config)
    for setting, record in read_inputs(run.file(layout.INPUTS)).items():
        if str(named.get(setting)) != record["path"]:
            continue
        for name, digest in record["files"].items():
            path = run.file(name)
            if not path.is_file() or file_digest(path) != digest:
                raise InputError(
                    f"{path} is not the copy of {record['path']} that the run was begun with: restore it, or start "
                    "another run with `--out`."
                )
        files[setting] = run.file(record["name"])
    return _with_files(config, files)
