"""Recorded results, and how they are written as Markdown."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@cache
def load(name: str) -> dict[str, Any] | None:
    """A recorded result, None if there is none."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def figure_at(name: str, path: Iterable[str]) -> Any:
    """A figure of a result; None if the result or the figure is not there."""
    found: Any = (load(name) or {}).get("figures")
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def number(value: Any) -> str:
    """A summary as `median (min to max)`, anything else as it is."""
    if isinstance(value, dict) and "median" in value:
        return f"{_plain(value['median'])} ({_plain(value['min'])} to {_plain(value['max'])})"
    return _plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _plain(value: float) -> str:
    if value and abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def origin(result: dict[str, Any]) -> str:
    commit = str(result["environment"]["commit"])[:10]
    versions = result["environment"]["versions"]
    return f"`{result['command']}`, {result['measured']}, commit {commit}, torch {versions['torch']}.\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(lines) + "\n"


def grid(figures: Mapping[str, Mapping[str, Any]], names: Iterable[str], columns: Mapping[str, str]) -> str:
    """A row for each of `names`, a column for each key of `columns`, whose values are the heads."""
    rows = [(name, *(number(figures[name][key]) for key in columns)) for name in names]
    return table(("", *columns.values()), rows)
