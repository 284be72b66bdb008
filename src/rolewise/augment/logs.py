"""The exploit logs of population-based searches: PBA's, the role-wise authors', Ray's own, MODALS'.

One line is one exploit, a JSON array or a Python literal of six elements: target trial, source trial, epochs of the
target (not used), epochs of the copied checkpoint, the source's policy, the explored policy. A policy is a list of
integers, or a configuration whose `hp_policy` is one.
"""

import ast
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from rolewise.augment.ops import OPS, PUBLISHED
from rolewise.augment.policy import Policy, slots_of
from rolewise.augment.schedule import Schedule, Segment
from rolewise.errors import InputError, first_line, unknown

# Settings that only MODALS' configurations have: its policies use ops, and an order, of their own.
_MODALS = frozenset({"use_lpba", "enforce_prior", "metric_learning"})
_UNREADABLE = "neither JSON nor a Python literal"


class Row(NamedTuple):
    """One exploit: `epoch` counts the epochs that the copied checkpoint had behind it."""

    line: int
    target: str
    source: str
    epoch: int
    old: Policy
    new: Policy
    epochs: int | None  # length of the search, where the configuration states it


class Log(NamedTuple):
    """A log's exploits, in order, and the ops that its vectors were read with."""

    name: str
    rows: list[Row]
    ops: tuple[str, ...]


def read_log(text: str, name: str, ops: Sequence[str] | None) -> Log:
    """All exploits of a log.

    Raises:
        InputError: all faulty lines at once, each with file and line.
    """
    names = check_ops(ops)
    rows: list[Row] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(_row(read_literal(line), number, names, stated=ops is not None))
        except InputError as error:
            faults.append(f"{name}, line {number}: {error}")
    if len(faults) > 1 and not rows and all(_UNREADABLE in fault for fault in faults):
        raise InputError(
            f"{name} is not a schedule: it is neither JSON nor the log of a search, whose lines are lists."
        )
    if faults:
        raise InputError(listed(faults))
    if not rows:
        raise InputError(f"{name} holds no exploit and no policy.")
    return Log(name, rows, names)


def listed(faults: Sequence[str], most: int = 20) -> str:
    """Faults one below the other, the first `most` of them."""
    more = len(faults) - most
    return "\n".join([*faults[:most], *([f"... and {more} more."] if more > 0 else [])])


def check_ops(ops: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the ops of bare vectors.

    Raises:
        InputError: unknown names (all at once), or a name twice.
    """
    if ops is None:
        return PUBLISHED
    wrong = [unknown("op", name, OPS) for name in ops if name not in OPS]
    if wrong:
        raise InputError("\n".join(wrong))
    if len(set(ops)) != len(ops) or not ops or isinstance(ops, str):
        raise InputError(f"`ops` must name each op once, got {list(ops)}.")
    return tuple(ops)


def read_literal(line: str) -> Any:
    """A line as JSON, else as a Python literal: neither runs anything.

    Raises:
        InputError: it is neither, or nested too deeply.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        said = first_line(error)[:200].partition(": <ast.")[0]  # what follows is the address of an object
        raise InputError(f"{_UNREADABLE} ({said}).") from None


def _row(values: Any, line: int, names: tuple[str, ...], *, stated: bool) -> Row:
    if not isinstance(values, list | tuple) or len(values) != 6:
        came = f"{len(values)} elements" if isinstance(values, list | tuple) else type(values).__name__
        raise InputError(
            f"an exploit has six elements [target, source, epochs, epochs, old, new], got {came}."
        )
    target, source, _, epoch, old, new = values
    for what, value in (("target", target), ("source", source)):
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(f"the {what} trial must be a string or an integer, got {value!r:.80}.")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise InputError(f"the copied checkpoint's epochs must be an integer at least 0, got {epoch!r:.80}.")
    before, after = (_policy(config, what, names, stated) for what, config in (("old", old), ("new", new)))
    epochs = new.get("num_epochs") if isinstance(new, dict) else None
    if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
        raise InputError(f"`num_epochs` must be an integer at least 1, got {epochs!r:.80}.")
    return Row(line, str(target), str(source), epoch, before, after, epochs)


def _policy(config: Any, what: str, names: tuple[str, ...], stated: bool) -> Policy:
    vector = config
    if isinstance(config, dict):
        if "hp_policy" not in config:
            raise InputError(f"the {what} configuration has no `hp_policy`.")
        if not stated and _MODALS & set(config):
            raise InputError(
                f"the {what} configuration is of MODALS ({', '.join(sorted(_MODALS & set(config)))}), whose vectors "
                "use ops and an order of their own: state them with `ops=[names]`."
            )
        vector = config["hp_policy"]
    try:
        return Policy(slots_of(vector, names))
    except InputError as error:
        hint = "" if stated else " Another space or order can be stated with `ops=[names]`."
        raise InputError(f"{what} policy: {error}{hint if 'must hold' in str(error) else ''}") from None


def search_length(log: Log, epochs: int | None) -> int:
    """Number of epochs of the search: from the log, else from the argument.

    Raises:
        InputError: neither states it, or they differ.
    """
    stated = {row.epochs for row in log.rows if row.epochs is not None}
    if len(stated) > 1:
        raise InputError(f"{log.name}: `num_epochs` differs between the lines: {sorted(stated)}.")
    if stated and epochs is not None and stated != {epochs}:
        raise InputError(
            f"{log.name} is of a search of {stated.pop()} epochs, but `epochs` is {epochs}: leave it out, and use "
            f".stretch({epochs}) on the schedule."
        )
    if not stated and epochs is None:
        raise InputError(
            f"`epochs` must be given: {log.name} does not state the length of its search (PBA's: 200). In a settings "
            f"file or on the command line, name the result of `rolewise schedule convert {log.name} OUT.json "
            "--epochs 200`."
        )
    return stated.pop() if stated else int(epochs or 0)


def of_one_trial(log: Log, epochs: int) -> tuple[list[Segment], int]:
    """The segments of a `pbt_policy_*.txt`, the lineage of one trial, and how many stale lines were left out.

    When a source was never overwritten it has no file, so its target's old lines stay, and do not continue into the
    next ones: everything up to the last such break is stale.

    Raises:
        InputError: epochs that go back, or beyond the search.
    """
    rows = log.rows
    breaks = [i for i in range(len(rows) - 1) if rows[i].target != rows[i + 1].source]
    used = rows[breaks[-1] + 1 :] if breaks else rows
    return _segments(log, used, epochs), len(rows) - len(used)


def of_all_trials(log: Log, trial: str, epochs: int) -> tuple[list[Segment], int]:
    """The segments of one trial from a `pbt_global.txt`, the log of all of them: its lineage traced from the end.

    Raises:
        InputError: a trial that no line mentions.
    """
    used: list[Row] = []
    current = trial
    for row in reversed(log.rows):
        if row.target == current:
            used.insert(0, row)
            current = row.source
    if used:
        return _segments(log, used, epochs), len(log.rows) - len(used)
    started = [row.old for row in log.rows if row.source == trial]
    if not started:
        known = sorted(
            {name for row in log.rows for name in (row.target, row.source)}, key=lambda t: (len(t), t)
        )
        raise InputError(
            f"{log.name}: {unknown('trial', trial, known)} A trial that was never overwritten and never copied is in "
            "no line; it kept the initial policy, as in Schedule.none(epochs)."
        )
    return [(epochs, started[0])], len(log.rows)


def looks_global(log: Log) -> bool:
    """Whether a log is of all trials: by its name, or because its lines cannot be one lineage.

    In one trial's file a line either continues the one before or, behind stale lines, has the same target.
    """
    if "pbt_global" in log.name:
        return True
    pairs = list(zip(log.rows, log.rows[1:], strict=False))
    strange = sum(one.target not in (two.source, two.target) for one, two in pairs)
    return strange >= 3 and 2 * strange > len(pairs)


def _segments(log: Log, rows: Sequence[Row], epochs: int) -> list[Segment]:
    """First the old policy up to the first copied checkpoint, then each new policy up to the next one."""
    faults = []
    segments: list[Segment] = []
    starts = [0, *(row.epoch for row in rows)]
    ends = [*(row.epoch for row in rows), epochs]
    policies = [rows[0].old, *(row.new for row in rows)]
    lines = [*(row.line for row in rows), rows[-1].line]
    for start, end, policy, line in zip(starts, ends, policies, lines, strict=True):
        if end < start:
            what = f"the search has {end} epochs" if end is ends[-1] else f"this one was copied at {end}"
            faults.append(
                f"{log.name}, line {line}: the checkpoint before was copied at epoch {start}, but {what}."
            )
        elif end > start:
            segments.append((end - start, policy))
    if faults:
        raise InputError(listed(faults))
    return segments


def write_log(schedule: Schedule) -> str:
    """A schedule as PBA's log of one trial: Python literals, bare vectors; it does not state its length.

    Raises:
        InputError: a policy without a vector.
    """
    vectors = [policy.to_vector() for _, policy in schedule.segments]
    ends = []
    epoch = 0
    for length, _ in schedule.segments:
        epoch += length
        ends.append(epoch)
    if len(vectors) == 1:  # no exploit: one at epoch 0 that changes nothing
        vectors, ends = vectors * 2, [0, epoch]
    lines = []
    for i in range(len(vectors) - 1):
        lines.append(repr([str(i + 1), str(i), ends[i], ends[i], vectors[i], vectors[i + 1]]))
    return "\n".join(lines) + "\n"
