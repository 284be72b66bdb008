"""Schedules in words: what `rolewise schedule show` prints. Epochs count from 0."""

from dataclasses import fields, is_dataclass

from rolewise.augment.ops import OPS, Op
from rolewise.augment.policy import BasePolicy, Policy
from rolewise.augment.schedule import Schedule
from rolewise.augment.spaces import SPACES


def summary(schedule: Schedule, name: str) -> str:
    """One line: length, segments, role."""
    count = len(schedule.segments)
    role = f", of the {schedule.role}" if schedule.role else ""
    length = f"{len(schedule)} epoch{'s' if len(schedule) > 1 else ''}"
    return f"{name}: {length} in {count} segment{'s' if count > 1 else ''}{role}"


def origin(schedule: Schedule) -> list[str]:
    """Provenance, one line a field."""
    return [f"  {name}: {value}" for name, value in sorted(schedule.provenance.items())]


def table(schedule: Schedule) -> str:
    """One line a segment: epochs, mean number of ops per image, and the ops that can fire."""
    lines = [f"{'epochs':>9}  {'ops/image':>9}  op probability@strength"]
    first = 0
    for epochs, policy in schedule.segments:
        span = f"{first}-{first + epochs - 1}" if epochs > 1 else f"{first}"
        lines.append(f"{span:>9}  {policy.expected_ops():9.2f}  {ops_in_words(policy)}")
        first += epochs
    return "\n".join(lines)


def ops_in_words(policy: BasePolicy) -> str:
    """The ops that can fire, each with probability and strength of its slots."""
    if not isinstance(policy, Policy):
        names: list[str] = [one.name for one in fields(policy)] if is_dataclass(policy) else []
        return f"{type(policy).__name__}({', '.join(f'{name}={getattr(policy, name)}' for name in names)})"
    words = []
    for name in OPS:
        slots = [(p, m) for op, p, m in policy.settings if op == name and p > 0]
        if slots:
            words.append(f"{name} " + " ".join(f"{p / 10:g}{_strength(OPS[name], m)}" for p, m in slots))
    return ", ".join(words) or "none"


def ranges(policy: BasePolicy, size: tuple[int, int] = (32, 32)) -> list[str]:
    """For a policy whose ops are drawn from a level space: that space's source, and each op's strengths.

    Args:
        policy: a PBA policy has none, and gives no line.
        size: (height, width) of the images in pixels.
    """
    space = SPACES.get(getattr(policy, "space", ""))
    if space is None:
        return []
    found: dict[str, tuple[Op, list[float]]] = {}
    for op, strength in policy.slots(*size):
        found.setdefault(op.name, (op, []))[1].append(strength)
    words = [_range(op, strengths) for op, strengths in found.values()]
    return [f"  ranges of {space.source}", f"  at {size[0]} x {size[1]} pixels: {', '.join(words)}"]


def _range(op: Op, strengths: list[float]) -> str:
    if op.strengths is None:
        return op.name
    sign = "±" if op.signed else ""
    ends = dict.fromkeys(f"{sign}{value:.3g}" for value in (min(strengths), max(strengths)))
    return f"{op.name} {' to '.join(ends)}"


def _strength(op: Op, magnitude: int) -> str:
    if op.strengths is None:
        return ""
    return f"@{'±' if op.signed else ''}{op.strengths[magnitude]:.3g}"
