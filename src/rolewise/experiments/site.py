"""A `reproduce` directory: its identity, its run directories, its schedules, what failed in it."""

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from rolewise.augment import Schedule
from rolewise.config import Config
from rolewise.errors import InputError
from rolewise.experiments.plan import Work
from rolewise.experiments.recipes import Options, with_settings
from rolewise.experiments.work_claims import Claims
from rolewise.runs import layout, load_json, to_json, write_atomic

FORMAT, FORMAT_VERSION = "rolewise.experiment", 1


class Site:
    """The directory in which an experiment is done.

    Args:
        path: directory; made if missing.
        options: options of all work in it.

    Raises:
        InputError: the directory holds another recipe, scale or version, or something else.
    """

    def __init__(self, path: str | os.PathLike[str], options: Options) -> None:
        self.path, self.options = Path(path), options
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"`--out` {self.path} must be a directory, but it is a file. Name another one.")
        foreign = self.path.is_dir() and any(self.path.iterdir()) and not self._about.exists()
        if foreign and not (self.path / "lock").exists():
            raise InputError(f"`--out` {self.path} holds something else: name a new directory.")
        try:
            (self.path / "runs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write in `--out` {self.path}: {error.strerror or error}.") from error
        with FileLock(self.path / "lock"):
            if self._about.exists():
                self._check()
            else:
                self._write({"identity": options.identity(), "requests": []})
        self._done: set[str] = set()

    @property
    def _about(self) -> Path:
        return self.path / "experiment.json"

    def _write(self, fields: Mapping[str, Any]) -> None:
        record = {"format": FORMAT, "format_version": FORMAT_VERSION, **fields}
        write_atomic(self._about, to_json(record))

    def _check(self) -> None:
        identity = read_about(self.path)["identity"]
        mine = json.loads(json.dumps(self.options.identity()))
        for key in sorted(mine.keys() | identity.keys()):
            if mine.get(key) != identity.get(key):
                raise InputError(
                    f"{self.path} holds work with `{key}` {identity.get(key)!r}, not {mine.get(key)!r}: results of "
                    "both would be mixed. Name another directory with `--out`."
                )

    def add_request(self, request: Mapping[str, Any]) -> None:
        """Notes what was asked for, so that what is missing is known."""
        with FileLock(self.path / "lock"):
            record = read_about(self.path)
            if dict(request) not in record["requests"]:
                record["requests"].append(dict(request))
                self._write({"identity": record["identity"], "requests": record["requests"]})

    def requests(self) -> list[dict[str, Any]]:
        """Everything that was asked for in this directory, oldest first."""
        return list(read_about(self.path)["requests"])

    @cached_property
    def claims(self) -> Claims:
        """Who works on what."""
        return Claims(self.path / "claims")

    def run(self, name: str) -> Path:
        """The run directory of a piece of work."""
        return self.path / "runs" / name

    def done(self, work: Work) -> bool:
        """Whether a piece of work is complete."""
        if work.name not in self._done:
            stages = self.run(work.name) / layout.STAGES
            if not stages.exists() or work.stage not in load_json(stages):
                return False
            self._done.add(work.name)
        return True

    def config(self, work: Work) -> Config:
        """The settings of a piece of work, with the files of teacher and schedule."""
        config = work.config(self.options)
        files: dict[str, Any] = {}
        if work.teacher is not None:
            files["teacher.file"] = str(self.run(work.teacher) / layout.network_file("teacher"))
        if work.kind == "train":
            files[f"{work.role}.schedule"] = self._schedule(work, config)
        return with_settings(config, files)

    def _schedule(self, work: Work, config: Config) -> str:
        """The file of a training's schedule, written first where an arm makes it; or "none"."""
        arm = work.arm
        searched = self.searched(work)
        if arm.file:
            if self.options.pba_schedule is None:
                raise InputError(
                    f'The arm "{arm.word}" needs the file of PBA\'s published schedule: `--pba-schedule FILE`.'
                )
            return self.options.pba_schedule
        if arm.make is None:
            return "none" if searched is None else str(searched)
        path = self.path / "schedules" / f"{work.name.replace('/', '--')}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            found = None if searched is None else Schedule.load(searched)
            arm.make(config.role(work.role).train.epochs, work.seed, found).save(path)
        return str(path)

    def searched(self, work: Work) -> Path | None:
        """The file of the searched schedule that a training takes or starts from; None without a search."""
        if work.searched is None:
            return None
        role = "teacher" if work.arm.base == "a_t" else "student"
        return self.run(work.searched) / layout.schedule_file(role)

    def command(self, work: Work) -> str:
        """The command that repeats one piece of work by itself."""
        settings = self.run(work.name) / layout.CONFIG
        return f"rolewise {work.kind} --role {work.role} --config {shlex.quote(str(settings))} --out repeated"

    # What failed.

    def note_failure(self, work: Work, error: BaseException) -> None:
        """Keeps why a piece of work failed, for the report; the next `reproduce` tries it again."""
        path = self._failure(work.name)
        path.parent.mkdir(exist_ok=True)
        record = {"work": work.name, "error": f"{type(error).__name__}: {error}"}
        write_atomic(path, to_json(record))

    def forget_failure(self, work: Work) -> None:
        """What failed before has been done."""
        self._failure(work.name).unlink(missing_ok=True)

    def failure(self, name: str) -> str | None:
        """Why a piece of work failed, or None."""
        path = self._failure(name)
        return str(load_json(path)["error"]) if path.exists() else None

    def _failure(self, name: str) -> Path:
        return self.path / "failures" / f"{name.replace('/', '--')}.json"

    def clear(self, work: Work) -> None:
        """Removes the checkpoints of complete work, which are no longer needed."""
        shutil.rmtree(self.run(work.name) / layout.CHECKPOINTS, ignore_errors=True)


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `experiment.json` of a directory holds: `identity` and `requests`.

    Raises:
        InputError: not the directory of an experiment, one of a later version, or a damaged file.
    """
    file = Path(path) / "experiment.json"
    if not file.is_file():
        raise InputError(f"{path} is not the directory of an experiment: it has no experiment.json.")
    record = load_json(file)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f'{file} is not that of an experiment: its `format` must be "{FORMAT}".')
    if record.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{file} has format version {record.get('format_version')}; this version of rolewise reads "
            f"{FORMAT_VERSION}. Name another directory with `--out`."
        )
    forms = {"identity": dict, "requests": list}
    wrong = [key for key, kind in forms.items() if not isinstance(record.get(key), kind)]
    if wrong:
        raise InputError(f"{file} is damaged: {', '.join(wrong)} missing or of another type. Restore it.")
    return record
