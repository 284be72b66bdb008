"""How far apart two schedules are, and in what: what `rolewise schedule diff` prints. Epochs count from 0."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby, permutations

from rolewise.augment.describe import ops_in_words
from rolewise.augment.ops import LEVELS, OPS
from rolewise.augment.policy import TENTHS, BasePolicy, Policy
from rolewise.augment.schedule import Schedule

_MOST_OPS = 5  # ops that the summary names
_MOST_COPIES = 4  # copies of an op that are matched in every way; more are matched in their order


def policy_distance(one: BasePolicy, two: BasePolicy) -> float | None:
    """0 for equal policies, 1 for slots that always fire against slots that never do; None where it is not defined.

    The mean over slots of what it takes to turn the one into the other: firing with probability p at level m costs
    |p - q| + min(p, q) |m - n| / 9 against probability q and level n. Copies of an op are matched as it costs least; a
    slot that one of the two lacks never fires there. Our choice: there is no published distance.
    """
    if one == two:
        return 0.0
    if not (isinstance(one, Policy) and isinstance(two, Policy)):
        return None
    total, count = 0.0, 0
    for name in {setting[0] for setting in (*one.settings, *two.settings)}:
        left, right = ([(p, m) for op, p, m in policy.settings if op == name] for policy in (one, two))
        copies = max(len(left), len(right))
        left, right = (side + [(0, 0)] * (copies - len(side)) for side in (left, right))
        orders = permutations(right) if copies <= _MOST_COPIES else [tuple(right)]
        total += min(sum(map(_cost, left, order, [name] * copies)) for order in orders)
        count += copies
    return total / count


def _cost(one: tuple[int, int], two: tuple[int, int], name: str) -> float:
    levels = 0 if OPS[name].strengths is None else abs(one[1] - two[1]) / (LEVELS - 1)
    return (abs(one[0] - two[0]) + min(one[0], two[0]) * levels) / TENTHS


def aligned(one: Schedule, two: Schedule) -> tuple[Schedule, Schedule]:
    """Both at the length of the longer one: epochs are compared by their place in the training."""
    length = max(len(one), len(two))
    return tuple(s if len(s) == length else s.stretch(length) for s in (one, two))  # type: ignore[return-value]


def distance(one: Schedule, two: Schedule) -> float | None:
    """The mean of `policy_distance` over the epochs of both at one length; None where a policy has none."""
    pairs = Counter(zip(*aligned(one, two), strict=True))
    found = {pair: policy_distance(*pair) for pair in pairs}
    if None in found.values():
        return None
    return sum((found[pair] or 0.0) * count for pair, count in pairs.items()) / pairs.total()


def summary_of_difference(one: Schedule, two: Schedule) -> Iterator[str]:
    """The lines that say how much differs: distance, epochs, ops per image, the ops that changed most."""
    if len(one) != len(two):
        first, second = ("first", "second") if len(one) < len(two) else ("second", "first")
        yield f"lengths: {len(one)} against {len(two)} epochs; the {first} is stretched to the {second}'s"
    one, two = aligned(one, two)
    found = distance(one, two)
    if found is None:
        yield "distance: none, since not all policies have slots with probability and magnitude"
    else:
        yield f"distance: {found:.4f} (0: the same; 1: every op always against never)"
    spans = [_span(epochs) for epochs, *pair in _ranges(one, two) if pair[0] != pair[1]]
    differing = sum(a != b for a, b in zip(one, two, strict=True))
    yield f"epochs that differ: {differing} of {len(one)} ({', '.join(_few(spans))})"
    yield f"ops per image: {_mean_ops(one):.2f} -> {_mean_ops(two):.2f}"
    before, after = op_means(one), op_means(two)
    changes = sorted(before.keys() | after.keys(), key=lambda op: (-_change(before, after, op), op))
    changed = [op for op in changes if _change(before, after, op) > 0][:_MOST_OPS]
    if changed:
        shown = [f"{op} {_said(before, op)} -> {_said(after, op)}" for op in changed]
        yield f"most changed, mean probability@magnitude: {', '.join(shown)}"


def difference(one: Schedule, two: Schedule) -> Iterator[str]:
    """Where two schedules differ: per range of epochs, the slots that changed (probability in tenths/magnitude)."""
    for epochs, before, after in _ranges(*aligned(one, two)):
        if before != after:
            yield f"epochs {_span(epochs)}: {', '.join(_changes(before, after))}"


def _ranges(one: Schedule, two: Schedule) -> Iterator[tuple[range, BasePolicy, BasePolicy]]:
    pairs = enumerate(zip(one, two, strict=True))
    for (before, after), group in groupby(pairs, key=lambda pair: pair[1]):
        epochs = [epoch for epoch, _ in group]
        yield range(epochs[0], epochs[-1] + 1), before, after


def _span(epochs: range) -> str:
    return f"{epochs[0]}-{epochs[-1]}" if len(epochs) > 1 else f"{epochs[0]}"


def _few(spans: list[str], most: int = 8) -> list[str]:
    return spans if len(spans) <= most else [*spans[:most], f"and {len(spans) - most} more ranges"]


def _mean_ops(schedule: Schedule) -> float:
    return sum(epochs * policy.expected_ops() for epochs, policy in schedule.segments) / len(schedule)


def op_means(schedule: Schedule) -> dict[str, tuple[float, float]]:
    """By op, over slots and epochs: mean probability (a fraction), and mean magnitude of the slots that can fire.

    Policies without slots of that kind (RandAugment) are left out.
    """
    sums: dict[str, list[float]] = {}
    for epochs, policy in schedule.segments:
        for op, tenths, level in policy.settings if isinstance(policy, Policy) else ():
            entry = sums.setdefault(op, [0.0, 0.0, 0.0, 0.0])
            live = epochs if tenths else 0
            for place, value in enumerate((epochs, epochs * tenths / TENTHS, live, live * level)):
                entry[place] += value
    return {op: (chance / n, level / live if live else 0.0) for op, (n, chance, live, level) in sums.items()}


def _change(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]], op: str) -> float:
    (p, m), (q, n) = before.get(op, (0.0, 0.0)), after.get(op, (0.0, 0.0))
    levels = 0.0 if OPS[op].strengths is None else abs(m - n) / (LEVELS - 1)
    return abs(p - q) + min(p, q) * levels


def _said(means: dict[str, tuple[float, float]], op: str) -> str:
    chance, level = means.get(op, (0.0, 0.0))
    return f"{chance:.2f}" if OPS[op].strengths is None else f"{chance:.2f}@{level:.1f}"


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
