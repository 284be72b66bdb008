"""Draws the tables of docs/training.md on the strong recipe from the recorded ablation; no number there is by hand.

python benchmarks/recipe_page.py
"""

import json
import statistics
from collections.abc import Mapping
from typing import Any

from page_text import ROOT, origin, table
from recipe import ELEMENTS, EXCLUSIVE, points, seed_names

PAGE = ROOT / "docs" / "training.md"
BEGIN, END = "<!-- tables: written by benchmarks/recipe_page.py -->", "<!-- end of tables -->"
Rows = Mapping[tuple[str, int], Mapping[str, Any]]


def strong_table(content: Mapping[str, Any]) -> str:
    """The strong recipe against the paper's: with the seeds that chose it, and with those that did not."""
    strong = [row for part in ("rows", "confirmation") for row in content[part] if row["arm"] == "strong"]
    found = [
        (
            str(row["bits"]),
            seed_names(row),
            f"{statistics.mean(row['accuracy_of_its_base']):.2f}",
            f"{row['accuracy']:.2f}",
            points(row["accuracy_difference"]),
        )
        for row in sorted(strong, key=lambda row: -row["bits"])
    ]
    head = ("bits", "seeds", "paper's recipe, %", "strong recipe, %", "difference, points (95 %)")
    return table(head, found)


def element_table(content: Mapping[str, Any], rows: Rows) -> str:
    """Each element: added to the paper's recipe, and added to or taken from the strong one."""
    found = []
    for element in ELEMENTS:
        inside = element in content["strong"]
        arm = f"strong-{element}" if inside else f"strong+{element}"
        added = rows.get((f"paper+{element}", 4))
        cells = [_named(element), "" if added is None else points(added["held_out_difference"])]
        for bits in (4, 2):
            row = rows.get((arm, bits))
            how = "taken: " if inside else f"for {EXCLUSIVE[element]}: " if element in EXCLUSIVE else ""
            cells.append("" if row is None else how + points(row["accuracy_difference"]))
        found.append(tuple(cells))
    head = ("element", "added to the paper's, 4 bits, held-out images", "strong, 4 bits", "strong, 2 bits")
    return table(head, found)


def _named(element: str) -> str:
    """The element and its settings."""
    changes = {name: value for name, value in ELEMENTS[element].items() if value is not True}
    words = ", ".join(f"`{name}={value}`" for name, value in changes.items())
    return f"{element}: {words}" if words else f"{element}: 8 bits, then 4, then 2"


def main() -> None:
    content = json.loads((ROOT / "results" / "recipe" / "ablation.json").read_text("utf-8"))
    rows = {(row["arm"], row["bits"]): row for row in content["rows"]}
    text = "\n".join([origin(content), strong_table(content), element_table(content, rows)])
    page = PAGE.read_text("utf-8")
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    PAGE.write_text(f"{before}\n\n{text}\n{after}", "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
