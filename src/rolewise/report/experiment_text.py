"""An experiment as Markdown, CSV, LaTeX and a model index: the same numbers as on its page."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import yaml

from rolewise.experiments.claims import Verdict
from rolewise.experiments.results import CellResult, Results
from rolewise.experiments.tabulate import ArmGroup, Grid, raw
from rolewise.report import experiment_words as words
from rolewise.report.experiment_words import Commands

_LATEX = str.maketrans(
    {
        "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}", "±": r"$\pm$",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "\N{EN DASH}": "--",
    }
)  # fmt: skip


def markdown(
    results: Results,
    verdicts: tuple[Verdict, ...],
    grids: Sequence[Grid],
    groups: Sequence[ArmGroup],
    *,
    title: str,
    commands: Commands,
    picture: str | None,
) -> str:
    """The text.

    Args:
        results: measured results.
        verdicts: verdicts on the claims.
        grids: tables in the paper's form.
        groups: arms of each training.
        title: heading.
        commands: what repeats the experiment, whole and piece by piece.
        picture: file of the dot plot, relative to the text; None for none.
    """
    parts = [f"# {title}", "\n".join(words.sentences(results, verdicts))]
    if verdicts:
        parts.append("## Claims\n\n" + _claims(verdicts))
    parts += [f"## {grid.title}\n\n{_grid(grid)}" for grid in grids]
    if groups:
        shown = "" if picture is None else f"![Paired differences to no schedule]({picture})\n\n"
        parts.append("## Arms\n\n" + shown + "\n\n".join(_arms(group) for group in groups))
    parts.append("## How\n\n" + "\n".join(f"- {line}" for line in _how(results)))
    parts.append(_listed(commands.whole))
    if commands.pieces:
        hidden = f"<summary>Each of its {len(commands.pieces)} pieces alone</summary>"
        parts.append(f"<details>{hidden}\n\n{_listed(commands.pieces)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _listed(commands: Sequence[tuple[str, str]]) -> str:
    return "\n\n".join(f"{what}:\n\n    {command}" for what, command in commands)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _claims(verdicts: tuple[Verdict, ...]) -> str:
    rows = []
    for one in verdicts:
        state = f"**{one.state}** ({one.scale})"
        rows.append((one.claim.sentence, one.claim.source, state, one.reason))
        if one.state != "not run":
            rows += [(f"- {each.comparison.title}", "", words.judged(each), "") for each in one.judged]
    return _table(("claim", "paper", "found", "why"), rows)


def _grid(grid: Grid) -> str:
    rows = [(title, *(_cell(cell) for cell in cells)) for title, cells in grid.rows]
    return _table(("", *grid.columns), rows)


def _cell(cell: CellResult | None) -> str:
    if cell is None:
        return ""
    paper = f"; paper {words.paper(cell)}" if cell.cell.paper is not None else ""
    if cell.summary is None:
        return f"*{words.reason(cell)}*{paper}"
    return f"{words.accuracy(cell)} ({words.count(cell)}, {words.interval(cell)}{paper})"


def _arms(group: ArmGroup) -> str:
    head = (
        "schedule",
        "n",
        "accuracy",
        "above no schedule",
        "A_S above it",
        "P(A_S better)",
        "that difference is",
    )
    return f"### {group.title}\n\n{_table(head, [words.arm(row) for row in group.rows])}"


def _how(results: Results) -> list[str]:
    seeds = ", ".join(str(seed) for seed in results.seeds)
    lines = [
        f"Seeds {seeds}. Intervals are 95 % Student t over seeds; for one seed Wilson's for the test images. "
        "Differences are paired by seed: same order of images, same initial weights.",
        "Accuracy: test images, after the last epoch, float32; never used for a choice.",
    ]
    lines += words.hardware(results)
    return lines + [f"failed: {name}: {why}" for name, why in results.failures.items()]


def table_csv(results: Results) -> str:
    """One line for each cell and seed."""
    entries = raw(results)
    target = io.StringIO()
    writer = csv.DictWriter(target, list(entries[0]) if entries else ["cell"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return target.getvalue()


def latex(grids: Sequence[Grid]) -> str:
    """The tables for `booktabs`; below each of our numbers the paper's in parentheses."""
    parts = ["% \\usepackage{booktabs}"]
    for grid in grids:
        lines = [
            "\\begin{table}",
            f"\\caption{{{_escape(grid.title)}}}",
            f"\\begin{{tabular}}{{l{'r' * len(grid.columns)}}}",
            "\\toprule",
            " & ".join(["", *map(_escape, grid.columns)]) + " \\\\",
            "\\midrule",
        ]
        for title, cells in grid.rows:
            lines.append(" & ".join([_escape(title), *(_latex_cell(cell) for cell in cells)]) + " \\\\")
        parts.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]))
    return "\n\n".join(parts) + "\n"


def _latex_cell(cell: CellResult | None) -> str:
    if cell is None:
        return ""
    paper = "" if cell.cell.paper is None else f" ({cell.cell.paper:.2f})"
    return _escape(words.accuracy(cell) + paper)


def _escape(text: str) -> str:
    return text.translate(_LATEX)


def model_index(results: Results) -> str:
    """`model-index.yml`, one entry for each cell with results: task, data set, metric."""
    models: list[dict[str, Any]] = []
    for one in results.cells:
        summary, setup = one.summary, one.cell.setup
        if summary is None:
            continue
        models.append(
            {
                "Name": one.cell.id,
                "Metadata": {
                    "Architecture": setup.network
                    if setup.role == "teacher"
                    else setup.student or setup.network,
                    "Weight bits": setup.bits,
                    "Distillation": setup.loss,
                    "Schedule": setup.schedule,
                    "Scale": results.title,
                    "Seeds": len(one.outcomes),
                },
                "Results": [
                    {
                        "Task": "Image Classification",
                        "Dataset": setup.data,
                        "Metrics": {"Top 1 Accuracy": round(100 * summary.mean, 3)},
                    }
                ],
            }
        )
    return yaml.safe_dump({"Models": models}, sort_keys=False, allow_unicode=True)
