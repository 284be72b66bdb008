"""Run directories: settings, logs, checkpoints, the lock, and what happens when a process is killed.

`docs/run-directory.md` describes the files.
"""

from rolewise.runs import layout
from rolewise.runs.checkpoint import Checkpoint
from rolewise.runs.directory import RunDirectory
from rolewise.runs.environment import environment
from rolewise.runs.files import file_digest, free_bytes, load_json, to_json, write_atomic
from rolewise.runs.logs import read as read_log
from rolewise.runs.logs import read_lineage, read_metrics
from rolewise.runs.opening import OpenRun, check_run, open_run
from rolewise.runs.place import check_output, read_config
from rolewise.runs.records import read_inputs, read_results
from rolewise.runs.stop import RESUMABLE, StopFlag
from rolewise.runs.store import CheckpointStore

__all__ = [
    "RESUMABLE",
    "Checkpoint",
    "CheckpointStore",
    "OpenRun",
    "RunDirectory",
    "StopFlag",
    "check_output",
    "check_run",
    "environment",
    "file_digest",
    "free_bytes",
    "layout",
    "load_json",
    "open_run",
    "read_config",
    "read_inputs",
    "read_lineage",
    "read_log",
    "read_metrics",
    "read_results",
    "to_json",
    "write_atomic",
]
