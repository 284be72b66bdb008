"""Schedules in words: what `rolewise schedule show` and `diff` print. Epochs count from 0."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from rolewise.augment.ops import OPS, Op
from rolewise.augment.policy import BasePolicy, Policy
from rolewise.augment.schedule import Schedule


def summary(schedule: Schedule, name: str) -> str:
    """One line: length, segments, role."""
    count = len(schedule.segments)
    role = f", of the {schedule.role}" if schedule.role else ""
    return f"{name}: {len(schedule)} epochs in {count} segment{'s' if count > 1 else ''}{role}"


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
        fields = ", ".join(f"{key}={value}" for key, value in policy.to_json().items() if key != "kind")
        return f"{type(policy).__name__}({fields})"
    words = []
    for name in OPS:
        slots = [(p, m) for op, p, m in policy.settings if op == name and p > 0]
        if slots:
            words.append(f"{name} " + " ".join(f"{p / 10:g}{_strength(OPS[name], m)}" for p, m in slots))
    return ", ".join(words) or "none"


def _strength(op: Op, magnitude: int) -> str:
    if op.strengths is None:
        return ""
    return f"@{'±' if op.signed else ''}{op.strengths[magnitude]:.3g}"


def difference(one: Schedule, two: Schedule) -> Iterator[str]:
    """Where two schedules differ: per range of epochs, the slots that changed (probability in tenths/magnitude)."""
    if len(one) != len(two):
        yield f"lengths: {len(one)} against {len(two)} epochs; the first {min(len(one), len(two))} are compared"
    pairs = enumerate(zip(one, two, strict=False))
    for (before, after), group in groupby(pairs, key=lambda pair: pair[1]):
        epochs = [epoch for epoch, _ in group]
        if before != after:
            span = f"{epochs[0]}-{epochs[-1]}" if len(epochs) > 1 else f"{epochs[0]}"
            yield f"epochs {span}: {', '.join(_changes(before, after))}"


def _changes(before: BasePolicy, after: BasePolicy) -> Iterator[str]:
    if not (isinstance(before, Policy) and isinstance(after, Policy)) or _names(before) != _names(after):
        yield f"{ops_in_words(before)} -> {ops_in_words(after)}"
        return
    seen: Counter[str] = Counter()
    for (name, p, m), (_, q, n) in zip(before.settings, after.settings, strict=True):
        seen[name] += 1
        if (p, m) != (q, n):
            yield f"{name}{f' ({seen[name]})' if seen[name] > 1 else ''} {p}/{m} -> {q}/{n}"


def _names(policy: Policy) -> list[str]:
    return [name for name, _, _ in policy.settings]
