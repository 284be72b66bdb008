"""A lineage as the text files of Ray's PBT scheduler, which other tools read: `pbt_global.txt`,
`pbt_policy_<id>.txt`.

One line is one exploit: target, source, target epoch, source epoch, old and new configuration.
`rolewise.Schedule.load` reads one trial of either file; `read_global` reads a whole log.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rolewise.augment.logs import read_literal
from rolewise.errors import InputError
from rolewise.population.lineage import ZEROS, Exploit, Lineage, Vector
from rolewise.population.pbt import VECTOR_LENGTH
from rolewise.runs import write_atomic

_MOST_BYTES = 64 << 20
_Change = tuple[int, Vector, Vector]


def read_global(path: Path, *, epochs: int, population: int | None = None) -> Lineage:
    """A lineage from a `pbt_global.txt`, of JSON lines or, as older ones are, of Python literals with bare
    vectors.

    Args:
        path: the file.
        epochs: length of the search; the file does not state it.
        population: None takes the highest id that occurs.

    Raises:
        InputError: missing, or a line that is no exploit; the line is named.
    """
    exploits = [_parse(path, number, text) for number, text in _numbered(path)]
    highest = max((max(one.target, one.source) for one in exploits), default=-1)
    lineage = Lineage(highest + 1 if population is None else population, epochs)
    for exploit in exploits:
        lineage.add(exploit)
    return lineage


def global_lines(lineage: Lineage) -> list[str]:
    """The lines of `pbt_global.txt`.

    Readers of this form take the first line's `old` for all that was before. Where members begin with
    policies of their own (a warm start), each change of these is written as a line by which a member copies
    itself.
    """
    lines: list[str] = []
    overwritten: set[int] = set()
    changes = _changes(lineage.initial)

    def begin_until(epoch: int) -> None:
        while changes and changes[0][0] <= epoch:
            change = changes.pop(0)
            members = (member for member in range(lineage.population) if member not in overwritten)
            lines.extend(_line(_self_copy(member, change)) for member in members)

    for exploit in lineage.exploits:
        begin_until(exploit.epoch)
        lines.append(_line(exploit))
        overwritten.add(exploit.target)
    begin_until(lineage.epochs)
    return lines


def policy_lines(lineage: Lineage, member: int) -> list[str]:
    """The lines of `pbt_policy_<member>.txt`: the member's lineage alone, without the stale lines that Ray's
    may have.

    None of them if it was never overwritten and begins with zeros; such a trial has no file.
    """
    root, exploits = lineage.ancestry(member)
    end = exploits[0].epoch if exploits else lineage.epochs
    begin = [_self_copy(root, change) for change in _changes(lineage.initial) if change[0] <= end]
    return [_line(exploit) for exploit in [*begin, *exploits]]


def write_logs(lineage: Lineage, folder: Path) -> list[Path]:
    """Writes `pbt_global.txt`, and `pbt_policy_<id>.txt` of each member that has a line; returns what was
    written."""
    texts = {
        f"pbt_policy_{member}.txt": policy_lines(lineage, member) for member in range(lineage.population)
    }
    texts = {
        "pbt_global.txt": global_lines(lineage),
        **{name: lines for name, lines in texts.items() if lines},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in texts.items():
        write_atomic(folder / name, "".join(f"{line}\n" for line in lines).encode())
    return [folder / name for name in texts]


def _changes(initial: tuple[Vector, ...] | None) -> list[_Change]:
    """(epoch, before, after) of each change of the initial policies; the first vector counts as one, unless
    all are 0."""
    if initial is None or set(initial) == {ZEROS}:
        return []
    before = (initial[0], *initial)
    pairs = zip(before, initial, strict=False)
    return [(epoch, old, new) for epoch, (old, new) in enumerate(pairs) if epoch == 0 or old != new]


def _self_copy(member: int, change: _Change) -> Exploit:
    epoch, old, new = change
    return Exploit(epoch, member, member, None, None, old, new)


def _line(exploit: Exploit) -> str:
    # The third field is the target's epoch as Ray last recorded it, one less than the boundary; readers
    # ignore it.
    epochs = max(0, exploit.epoch - 1), exploit.epoch
    configs = ({"hp_policy": list(vector)} for vector in (exploit.old, exploit.new))
    return json.dumps([str(exploit.target), str(exploit.source), *epochs, *configs])


def _numbered(path: Path) -> Iterable[tuple[int, str]]:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} is larger than {_MOST_BYTES:,} bytes, which no log of exploits is.")
    for number, text in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        if text.strip():
            yield number, text


def _parse(path: Path, number: int, text: str) -> Exploit:
    try:
        target, source, _, epoch, old, new = read_literal(text)
        vectors = [tuple(int(entry) for entry in _policy(config)) for config in (old, new)]
        if any(len(vector) != VECTOR_LENGTH for vector in vectors):
            raise ValueError(f"policies must hold {VECTOR_LENGTH} integers")
        return Exploit(int(epoch), int(target), int(source), None, None, vectors[0], vectors[1])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}, line {number}, is no exploit: {str(error).rstrip('.')}.") from error


def _policy(config: Any) -> Sequence[Any]:
    values = config["hp_policy"] if isinstance(config, Mapping) else config
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError("a policy must be a list")
    return values
