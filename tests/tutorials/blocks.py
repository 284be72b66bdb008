"""Runs the blocks of a tutorial in their order: Python in one namespace, files written, commands in-process."""

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from rolewise.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
BLOCK = re.compile(r"^```(python|bash)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run_tutorial(
    name: str,
    changes: Mapping[str, str],
    output: Callable[[], str],
    before: Callable[[int, dict[str, object]], None] = lambda number, names: None,
) -> tuple[list[tuple[str, str]], dict[str, object]]:
    """What each command printed, with the command, and the names that the Python blocks left.

    Args:
        name: of the page, without suffix.
        changes: pieces of text to replace everywhere, so that it is quick; each must occur.
        output: takes what was printed since it was last called.
        before: called with the number of each block and the names so far.
    """
    text = (DOCS / f"{name}.md").read_text("utf-8")
    for old, new in changes.items():
        assert old in text, f"the tutorial no longer says {old!r}"
        text = text.replace(old, new)
    names: dict[str, object] = {}
    printed: list[tuple[str, str]] = []
    blocks = BLOCK.findall(text)
    assert len(blocks) > 3
    for number, (kind, file, code) in enumerate(blocks):
        before(number, names)
        if file:
            Path(file).write_text(code, "utf-8")
        elif kind == "python":
            exec(compile(code, f"{name}.md, block {number}", "exec"), names)
        else:
            for line in code.strip().splitlines():
                output()
                status = main(shlex.split(line)[1:])
                assert status == 0, f"{line}: exit status {status}"
                printed.append((line, output()))
    return printed, names
