"""How progress reads: times, shares, values by name, populations."""

import math
from collections.abc import Iterable, Sequence

_DAY = 86400
_VALUES = {"lr": "learning rate", "task": "task loss", "kd": "KD loss", "kd_dropped": "KD gradients dropped"}


def duration(seconds: float) -> str:
    """Seconds as `0:42`, `12:05`, `3:07:09` or `2 d 3:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if seconds >= _DAY:
        return f"{hours // 24} d {hours % 24}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def percent(score: float | None) -> str:
    """A fraction in percent; a member that diverged has none."""
    return "-" if score is None or not math.isfinite(score) else f"{100 * score:.1f} %"


def named(values: dict[str, float]) -> str:
    """Values by name; accuracies in percent. That no gradient was dropped is not worth a word."""
    shown = []
    for name, value in values.items():
        if name == "epoch" or not isinstance(value, int | float) or (name == "kd_dropped" and value == 0):
            continue
        text = percent(value) if "accuracy" in name else f"{value:.4g}"
        shown.append(f"{_VALUES.get(name, name.replace('_', ' '))} {text}")
    return ", ".join(shown)


def ranked(scores: Sequence[float | None]) -> list[int]:
    """Members from the best to the worst."""

    def rank(score: float | None) -> float:
        return -math.inf if score is None or math.isnan(score) else score

    return sorted(range(len(scores)), key=lambda member: (-rank(scores[member]), member))


def spread(scores: Sequence[float | None]) -> str:
    """The best, middle and worst of a population."""
    if not scores:
        return ""
    order = ranked(scores)
    best, middle, worst = (percent(scores[i]) for i in (order[0], order[len(order) // 2], order[-1]))
    return f"best {best} (member {order[0]}), middle {middle}, worst {worst}"


def copied(moves: Sequence[tuple[int, int]]) -> str:
    """Who was overwritten by whom."""
    return f"overwritten {' '.join(f'{target}<-{source}' for target, source in moves)}" if moves else ""


def packed(parts: Iterable[str], width: int, separator: str = ", ") -> list[str]:
    """Parts in as few lines as fit `width`; only a part that is longer by itself exceeds it."""
    lines: list[str] = []
    for part in filter(None, parts):
        if lines and len(lines[-1]) + len(separator) + len(part) <= width:
            lines[-1] += separator + part
        else:
            lines.append(part)
    return lines
