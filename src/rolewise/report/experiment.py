"""Writes every output of an experiment from its directory alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rolewise.errors import InputError
from rolewise.experiments.claims import Verdict
from rolewise.experiments.results import Results
from rolewise.experiments.sentences import verdicts
from rolewise.experiments.tabulate import arm_groups, costs, grids, raw
from rolewise.report.arms_plot import arms_plot
from rolewise.report.experiment_page import experiment_page
from rolewise.report.experiment_text import latex, markdown, model_index, table_csv
from rolewise.report.experiment_words import Commands
from rolewise.report.theme import Theme
from rolewise.runs import layout, write_atomic

PAGE, TEXT, PICTURE = layout.REPORT, "README.md", "arms.svg"
_NONE = Commands()


def write_experiment(
    results: Results,
    folder: Path,
    *,
    title: str = "The paper's tables, regenerated",
    commands: Commands = _NONE,
) -> list[Path]:
    """Writes page, Markdown, CSV, LaTeX, JSON, model index and the dot plot.

    Args:
        results: measured results.
        folder: folder for the files; made if missing.
        title: heading of page and text.
        commands: what repeats the experiment, whole and piece by piece.

    Raises:
        InputError: a place that cannot be written.
    """
    found, tables, groups = verdicts(results), grids(results), arm_groups(results)
    picture = arms_plot(groups, Theme(page=False))
    page = experiment_page(results, found, tables, groups, title=title, commands=commands)
    shown = PICTURE if picture else None
    text = markdown(results, found, tables, groups, title=title, commands=commands, picture=shown)
    files = {
        PAGE: page,
        TEXT: text,
        "results.csv": table_csv(results),
        "tables.tex": latex(tables),
        "model-index.yml": model_index(results),
        layout.RESULTS: _document(results, found),
        **({PICTURE: picture} if picture else {}),
    }
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomic(folder / name, content.encode("utf-8", "replace"))
            written.append(folder / name)
    except OSError as error:
        raise InputError(f"Cannot write in {folder}: {error.strerror or error}.") from error
    return written


def _document(results: Results, found: Sequence[Verdict]) -> str:
    """Raw results per seed, the verdicts, what it cost, and on what."""
    document = {
        "format": "rolewise.experiment-results",
        "format_version": 1,
        "scale": results.title,
        "seeds": list(results.seeds),
        "environments": [_environment(one) for one in results.environments],
        "costs": costs(results),
        "claims": [
            {
                "claim": one.claim.name,
                "sentence": one.claim.sentence,
                "scope": one.claim.scope,
                "verdict": one.state,
                "reason": one.reason,
                "more_seeds": one.more_seeds,
                "comparisons": [
                    {
                        "title": each.comparison.title,
                        **({} if each.difference is None else vars(each.difference)),
                    }
                    for each in one.judged
                ],
            }
            for one in found
        ],
        "searches": {
            name: {
                key: record.get(key) for key in ("best", "score", "exploits", "overwritten", "images", "cost")
            }
            for name, record in results.searches.items()
        },
        "cells": raw(results),
    }
    return json.dumps(document, indent=1) + "\n"


def _environment(one: Mapping[str, Any]) -> dict[str, Any]:
    """Commit, versions and hardware; the system's own name says nothing about results."""
    hardware = {key: value for key, value in (one.get("hardware") or {}).items() if key != "platform"}
    return {"commit": one.get("commit"), "versions": one.get("versions"), "hardware": hardware}
