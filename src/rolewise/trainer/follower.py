"""A run directory as seen by the processes that do not write in it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rolewise.runs import RunDirectory, read_config


class Follower(RunDirectory):
    """Reads what the first process of a training wrote; everything that would write does nothing.

    Args:
        path: a run directory that the first process holds open; on several machines, one that all can read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        record = read_config(path)
        self.path = Path(path)
        self.config: dict[str, Any] = dict(record["config"])
        self.environment: dict[str, Any] = dict(record["environment"])
        self.note = lambda text: None  # the first process says it

    def close(self) -> None:
        """Nothing is held."""

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Nothing is written."""

    def write_json(self, name: str, value: Any) -> Path:
        """Nothing is written."""
        return self.file(name)

    def append_metrics(self, **fields: Any) -> None:
        """Nothing is written."""

    def append_lineage(self, **fields: Any) -> None:
        """Nothing is written."""

    def marks(self) -> dict[str, int]:
        """None: it has no checkpoints of its own."""
        return {}

    def rewind(self, marks: Mapping[str, int] | None = None) -> None:
        """Nothing is written."""

    def mark_done(self, name: str, info: Mapping[str, Any] | None = None) -> None:
        """Nothing is written."""
