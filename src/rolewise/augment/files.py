"""Schedules on disk: our JSON, and whatever else a file turns out to be."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rolewise.augment.format import Document, read_document
from rolewise.augment.logs import (
    check_ops,
    looks_global,
    of_all_trials,
    of_one_trial,
    read_log,
    search_length,
    write_log,
)
from rolewise.augment.policy import BasePolicy, Policy, slots_of
from rolewise.augment.schedule import Schedule
from rolewise.errors import InputError, InputTypeError, check_integer

MAX_BYTES = 1 << 20


def load_schedule(
    path: Path, epochs: int | None, *, ops: Sequence[str] | None, trial: str | int | None
) -> Schedule:
    """See `Schedule.load`."""
    if epochs is not None:
        check_integer("epochs", epochs, 1)
    text, digest = _read(path)
    origin: dict[str, Any] = {"file": path.name, "sha256": digest}
    start = text.lstrip()[:1]
    if start == "{":
        if ops is not None or trial is not None:
            raise InputError(
                f"`ops` and `trial` are for logs; {path.name} names its ops and holds one schedule."
            )
        return _from_document(read_document(text, path.name), path.name, epochs)
    bare = _bare_vectors(text) if start == "[" else None
    order = "published" if ops is None else list(check_ops(ops))
    if bare is not None:
        return _from_vectors(bare, path.name, epochs, ops, {**origin, "source": "vectors", "ops": order})
    log = read_log(text, path.name, ops)
    length = search_length(log, epochs)
    whole = looks_global(log)
    if whole and trial is None:
        trials = sorted({row.target for row in log.rows}, key=lambda t: (len(t), t))
        raise InputError(
            f"{path.name} is the log of all trials: `trial` must say whose schedule to read, one of "
            f"{', '.join(trials)}."
        )
    if trial is None or (not whole and str(trial) == log.rows[-1].target):
        segments, stale = of_one_trial(log, length)
        trial = log.rows[-1].target
    else:
        segments, stale = of_all_trials(log, str(trial), length)
    about = {
        "source": "exploit log",
        "ops": order,
        "trial": str(trial),
        "lines": len(log.rows),
        "unused_lines": stale,
    }
    return Schedule(segments, provenance={**origin, **about})


def _read(path: Path) -> tuple[str, str]:
    """The text and its SHA-256, after looking at the size."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path} is too large for a schedule: {size} bytes, at most {MAX_BYTES}.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"The schedule {path} cannot be read: {error.strerror or error}.") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is too large for a schedule: more than {MAX_BYTES} bytes.")
    try:
        return content.decode("utf-8-sig"), hashlib.sha256(content).hexdigest()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file (byte {error.start} is not UTF-8).") from None


def _bare_vectors(text: str) -> list[Any] | None:
    """The vectors of a JSON file that holds nothing else: one, or a list of one per epoch."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(values, list) and values and all(isinstance(v, int) for v in values):
        return [values]
    if isinstance(values, list) and values and all(isinstance(v, list) for v in values):
        return values
    return None


def _from_vectors(
    vectors: list[Any], name: str, epochs: int | None, ops: Sequence[str] | None, about: dict[str, Any]
) -> Schedule:
    names = check_ops(ops)
    policies: list[BasePolicy] = []
    for number, vector in enumerate(vectors):
        try:
            policies.append(Policy(slots_of(vector, names)))
        except InputError as error:
            raise InputError(f"{name}, vector {number}: {error}") from None
    if len(policies) == 1:
        if epochs is None:
            raise InputError(
                f"`epochs` must be given: {name} holds a single policy. On the command line: `rolewise schedule "
                f"convert {name} OUT.json --epochs N`."
            )
        return Schedule.constant(policies[0], epochs, provenance=about)
    _check_length(len(policies), epochs, name)
    return Schedule.from_policies(policies, provenance=about)


def _from_document(document: Document, name: str, epochs: int | None) -> Schedule:
    schedule = document.schedule()
    _check_length(len(schedule), epochs, name)
    return schedule


def _check_length(length: int, epochs: int | None, name: str) -> None:
    if epochs is not None and epochs != length:
        raise InputError(
            f"{name} is {length} epochs long, but `epochs` is {epochs}: leave it out, and use .stretch({epochs}) on "
            "the schedule."
        )


def save_schedule(schedule: Schedule, path: Path, form: str) -> None:
    """See `Schedule.save`."""
    if form not in ("rolewise", "pba"):
        raise InputError(f'`form` must be "rolewise" or "pba", got {form!r}.')
    text = write_log(schedule) if form == "pba" else to_text(schedule)
    if len(text.encode()) > MAX_BYTES:
        raise InputError(
            f"The schedule would be {len(text.encode())} bytes long, more than {MAX_BYTES} are not read again."
        )
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # A run states next that the search is complete, and drops its checkpoints.
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise InputError(f"The schedule cannot be written to {path}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            part.unlink()


def to_text(schedule: Schedule) -> str:
    """Canonical JSON: sorted keys, one policy or segment a line; the same schedule gives the same bytes."""
    policies: list[BasePolicy] = []
    segments = []
    for epochs, policy in schedule.segments:
        if policy not in policies:
            policies.append(policy)
        segments.append({"epochs": epochs, "policy": policies.index(policy)})
    fields = {
        "epochs": len(schedule),
        "format": "rolewise.schedule",
        "format_version": 1,
        "policies": [policy.to_json() for policy in policies],
        "provenance": schedule.provenance,
        "role": schedule.role,
        "segments": segments,
    }
    lines = []
    for name, value in fields.items():
        text = ",\n  ".join(_json(item) for item in value) if isinstance(value, list) else ""
        lines.append(f' "{name}": ' + (f"[\n  {text}\n ]" if isinstance(value, list) else _json(value)))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"`provenance` must hold JSON values alone: {error}.") from None
