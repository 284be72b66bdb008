"""A run directory: who may write in it, and the files in it."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors.torch
from filelock import FileLock
from torch import Tensor

from rolewise.errors import InputError
from rolewise.runs import logs
from rolewise.runs.environment import changes, environment
from rolewise.runs.files import (
    check_name,
    file_digest,
    finite,
    inside,
    load_json,
    make_folder,
    remove_temporary,
    to_json,
    write_atomic,
)
from rolewise.runs.layout import CHECKPOINTS, CONFIG, LINEAGE, LOCK, LOGS, METRICS, STAGES, search_stage
from rolewise.runs.place import FORMAT, FORMAT_VERSION, acquire, read_config, refuse_used
from rolewise.runs.records import STAGES_FILE, checked
from rolewise.runs.store import CheckpointStore


class RunDirectory:
    """A run directory that this process alone may write in, until `close`.

    Made by `create` or `open`. Nothing in it holds an absolute path: once closed, it may be moved or copied.

    Attributes:
        path: the directory.
        config: the settings it was made with.
        environment: versions and hardware that it was made with (see `rolewise.runs.environment`).
        note: callback for messages to a person (such as a skipped checkpoint); may be set.
    """

    def __init__(self, path: Path, lock: FileLock | None, record: Mapping[str, Any]) -> None:
        self.path = path
        self.config: dict[str, Any] = dict(record["config"])
        self.environment: dict[str, Any] = dict(record["environment"])
        self.note: Callable[[str], None] | None = None
        self._lock = lock

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Mapping[str, Any]) -> "RunDirectory":
        """Make a run directory. An empty directory may be there already.

        Raises:
            InputError: something is there already, or the place cannot be written.
            RunError: another process is making it, or no space is left.
        """
        folder = Path(path)
        record = {"format": FORMAT, "format_version": FORMAT_VERSION}
        record |= {"config": dict(config), "environment": environment()}
        refuse_used(folder)
        try:
            make_folder(folder)
            lock = acquire(folder)
        except OSError as error:
            raise InputError(f"Cannot write in `--out` {folder}: {error.strerror or error}.") from error
        try:
            refuse_used(folder)  # again: another process may have made it just before the lock was ours
            remove_temporary(folder)
            write_atomic(folder / CONFIG, to_json(finite(record)))
        except BaseException:
            lock.release()
            raise
        return cls(folder, lock, record)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> "RunDirectory":
        """Open a run directory that was made before.

        Args:
            path: the directory.
            read_only: nothing can be written and no lock is taken, so that another process may be at work in it.

        Raises:
            InputError: there is none, it cannot be written, or it is of a later format.
            RunError: another process uses it; the message names it.
        """
        folder = Path(path)
        record = read_config(folder)
        if read_only:
            return cls(folder, None, record)
        try:
            lock = acquire(folder)
            try:
                remove_temporary(folder)
                for name in LOGS:
                    logs.mend(folder / name)
            except BaseException:
                lock.release()
                raise
        except OSError as error:
            raise InputError(f"Cannot write in `--resume` {folder}: {error.strerror or error}.") from error
        return cls(folder, lock, record)

    def close(self) -> None:
        """Let others use it."""
        if self._lock is not None and self._lock.is_locked:
            # Later readers of the file must not take a process that has ended for the holder.
            with suppress(OSError):  # the directory was moved or removed meanwhile
                os.truncate(self.path / LOCK, 0)
            self._lock.release()

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written in it."""
        return self._lock is None

    def changes(self) -> list[str]:
        """How this machine and these versions differ from those that made it; results may then differ."""
        return changes(self.environment, environment())

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Write other settings into `config.json` (of a stage asked for later); the environment stays."""
        record = {"format": FORMAT, "format_version": FORMAT_VERSION}
        record |= {"config": dict(config), "environment": self.environment}
        write_atomic(self._writable(CONFIG), to_json(finite(record)))
        self.config = dict(config)

    # Files. A name is relative and leads nowhere outside.

    def file(self, name: str) -> Path:
        """The path of a file in it."""
        return inside(self.path, name)

    def _writable(self, name: str) -> Path:
        """The path of a file that is about to be written."""
        if self.read_only:
            raise InputError(f"{self.path} was opened to be read only, so {name} cannot be written.")
        return self.file(name)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file whole or not at all; NaN and infinities become null."""
        path = self._writable(name)
        write_atomic(path, to_json(finite(value)))
        return path

    def write_tensors(
        self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
    ) -> Path:
        """Write a safetensors file whole or not at all; its folder is made if need be.

        Args:
            name: name of the file.
            tensors: tensors by name.
            metadata: at most one entry, since safetensors writes several in an order that differs between processes.
        """
        path = self._writable(name)
        if not path.parent.exists():
            make_folder(path.parent)
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        write_atomic(path, safetensors.torch.save(plain, metadata=dict(metadata) if metadata else None))
        return path

    def read_json(self, name: str) -> Any:
        """What a JSON file in it holds.

        Raises:
            InputError: missing, or no JSON.
        """
        return load_json(self.file(name))

    # Logs.

    def append_metrics(self, **fields: Any) -> None:
        """Add a line to `metrics.jsonl`; NaN and infinities become null."""
        logs.append(self._writable(METRICS), fields)

    def append_lineage(self, **fields: Any) -> None:
        """Add a line to `lineage.jsonl`; NaN and infinities become null."""
        logs.append(self._writable(LINEAGE), fields)

    def marks(self) -> dict[str, int]:
        """The lengths of both logs in bytes, all of it on the device. To be kept in a checkpoint's state."""
        return {name: logs.mark(self._writable(name)) for name in LOGS}

    def rewind(self, marks: Mapping[str, int] | None = None, *, stage: str | None = None) -> None:
        """Drop what was logged after `marks`, or, without them, after the last stage that is done.

        Args:
            marks: lengths of the logs, from a checkpoint.
            stage: whose lines are dropped; those of other stages that are complete stay. None drops all.

        Raises:
            InputError: a log is shorter than its mark, or holds lines of stages that are not known to be complete: a
                file of the run was changed or lost. Nothing is cut then.
        """
        stages = self._stages()
        if marks is None:
            marks = list(stages.values())[-1]["marks"] if stages else {}
        tails = {name: logs.tail(self._writable(name), int(marks.get(name, 0))) for name in LOGS}
        kept = {
            name: [line for line in tail if stage and _stage(line) != stage] for name, tail in tails.items()
        }
        unknown = sorted({_stage(line) for lines in kept.values() for line in lines} - stages.keys())
        if unknown:
            raise InputError(
                f"{self.path} holds lines of {', '.join(unknown)} after the point from which {stage} would be resumed, "
                f"but {STAGES} does not say that this is complete: the file was changed or lost. Restore it; nothing "
                "was cut. A stage that was interrupted in between is to be finished first."
            )
        for name in LOGS:
            logs.rewind(self._writable(name), int(marks.get(name, 0)), kept[name])
        if any(kept.values()):
            lengths = self.marks()
            for about in stages.values():
                about["marks"] = {name: min(mark, lengths[name]) for name, mark in about["marks"].items()}
            self.write_json(STAGES, stages)

    # Stages and checkpoints.

    def checkpoints(self, name: str, keep: int = 2) -> CheckpointStore:
        """The checkpoints of the stage `name`, in `checkpoints/<name>/`."""
        return CheckpointStore(self.path / CHECKPOINTS / check_name(name), keep, note=self.note)

    def done(self, name: str) -> bool:
        """Whether the stage `name` is complete."""
        return name in self._stages()

    def begun(self) -> list[str]:
        """The stages that are complete, and those that have checkpoints."""
        folder = self.path / CHECKPOINTS
        under_way = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return list(dict.fromkeys([*self._stages(), *under_way]))

    def stage_info(self, name: str) -> dict[str, Any]:
        """The `info` that `mark_done` stored for the stage `name`.

        Raises:
            InputError: it is not complete.
        """
        stages = self._stages()
        if name not in stages:
            raise InputError(f'The stage "{name}" of {self.path} is not complete.')
        return dict(stages[name]["info"])

    def mark_done(
        self, name: str, info: Mapping[str, Any] | None = None, *, files: Sequence[str] = ()
    ) -> None:
        """Note that a stage is complete, how long the logs are now, and the SHA-256 of each of its files.

        Args:
            name: name of the stage.
            info: whatever `stage_info` shall give back.
            files: names of what the stage made, for `verify`.
        """
        stages = self._stages()
        stages.pop(name, None)
        digests = {file: file_digest(self.file(file)) for file in files}
        stages[check_name(name)] = {"info": dict(info or {}), "marks": self.marks(), "files": digests}
        self.write_json(STAGES, stages)

    def verify(self, name: str) -> None:
        """Checks that a file is the one that a stage made; a file of no complete stage is let pass.

        Raises:
            InputError: it was changed since, or cannot be read.
        """
        for stage, about in self._stages().items():
            expected = about.get("files", {}).get(name)
            if expected is not None and file_digest(self.file(name)) != expected:
                raise InputError(
                    f'{self.file(name)} is not the file that the stage "{stage}" made: it was changed or damaged '
                    "since. Restore it, or start another run with `--out`; a network or schedule of your own is named "
                    "by `--teacher` or `--schedule`."
                )

    def _stages(self) -> dict[str, Any]:
        path = self.path / STAGES
        if not path.exists():
            return {}
        found: dict[str, Any] = load_json(path)
        checked(STAGES_FILE, found, path)
        return found


def _stage(line: Mapping[str, Any]) -> str:
    """Which stage wrote a line of a log; an exploit is one of its role's search."""
    return str(line["stage"]) if "stage" in line else search_stage(str(line.get("role")))
