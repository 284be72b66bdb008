"""What the networks of a run got right of each class, from their outputs for the test images."""

import math
from collections.abc import Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from rolewise._roles import ROLES
from rolewise.errors import InputError, first_line
from rolewise.pretrained import describe
from rolewise.report.load import Run
from rolewise.runs import layout
from rolewise.trainer import confusion_matrix, per_class_accuracy

_MOST_ROWS = 30  # classes in the table; of more, those that teacher or student recognize worst
_MOST_CELLS = 20  # classes up to which confusion matrices are shown


def classes(run: Run) -> dict[str, Any] | None:
    """Accuracy per class of teacher and student, and their confusion matrices; None without tested networks."""
    found: dict[str, tuple[list[str], Any]] = {}
    for role in ROLES:
        file = run.path / layout.test_file(role)
        if not file.is_file():
            continue
        try:
            tensors = load_file(file)
            matrix = confusion_matrix(tensors["logits"], tensors["labels"])
            found[role] = (_names(run, role, len(matrix)), matrix)
        except (OSError, SafetensorError, KeyError, RuntimeError, ValueError, IndexError) as error:
            run.faults.append(f"{layout.test_file(role)} cannot be read: {first_line(error)}")
    if not found:
        return None
    names, matrix = next(iter(found.values()))
    accuracies = {
        role: per_class_accuracy(one) for role, (_, one) in found.items() if len(one) == len(matrix)
    }
    order = list(range(len(names)))
    if len(names) > _MOST_ROWS:
        order.sort(key=lambda k: _worst([row[k] for row in accuracies.values()]))
    rows = [
        {
            "name": names[k],
            "n": int(matrix[k].sum()),
            "percents": [_percent(row[k]) for row in accuracies.values()],
        }
        for k in order[:_MOST_ROWS]
    ]
    tables = [
        {"title": role.capitalize(), "names": names, "cells": one.tolist()}
        for role, (names, one) in found.items()
        if len(names) <= _MOST_CELLS
    ]
    return {
        "roles": [role.capitalize() for role in accuracies],
        "rows": rows,
        "left_out": len(names) - len(rows),
        "confusions": tables,
    }


def _worst(shares: Sequence[float | None]) -> float:
    """The least share, to sort by; a class without a test image, of which nothing is known, comes last."""
    return min((share for share in shares if share is not None), default=math.inf)


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f}"


def _names(run: Run, role: str, count: int) -> list[str]:
    """The classes' names as the network's file has them, else their numbers."""
    try:
        given = describe(run.path / layout.network_file(role)).get("classes")
    except InputError:
        given = None
    if isinstance(given, list) and len(given) == count:
        return [str(name) for name in given]
    return [str(number) for number in range(count)]
