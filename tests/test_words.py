"""The project's words: one term for each thing (`docs/glossary.md`), American spelling, plain English."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What crept in before -> what is said instead.
WORDS = {
    r"sittings?": "session",
    r"anew": "again, from scratch",
    r"go(?:es|ing)? on": "resume, continue",
    r"one'?s[ _]own": "your own",
    r"heed(?:s|ed)?": "handle",
    r"tells?": "says, states, describes",
    r"by hand written": "hand-written",
    r"normalis\w*": "normaliz-",
    r"colou?rs? ?plane": "color plane",
    r"colour\w*": "color",
    r"neighbour\w*": "neighbor",
    r"initialis\w*": "initializ-",
    r"optimis(?:e|ed|er|ation|ing)\w*": "optimiz-",
    r"quantis\w*": "quantiz-",
    r"minimis\w*|maximis\w*": "minimiz-, maximiz-",
    r"behaviour\w*": "behavior",
    r"licence": "license",
    r"centre[ds]?": "center",
    r"synchronis\w*": "synchroniz-",
    r"serialis\w*": "serializ-",
    r"generalis\w*|specialis\w*": "generaliz-, specializ-",
    r"recognis\w*|organis\w*": "recogniz-, organiz-",
    r"randomis\w*|standardis\w*": "randomiz-, standardiz-",
    r"orthonormalis\w*|parametris\w*|summaris\w*|vectoris\w*|finalis(?:e|er|ed|ing)\w*": "-iz-",
    r"greys?": "gray",
    r"(?:labell|modell|cancell|travell)(?:ed|ing)": "labeled, modeled, canceled, traveling",
    r"honour\w*|favour\w*|artefacts?|whilst|amongst": "honor, favor, artifact, while, among",
    r"misspelt|learnt": "misspelled, learned",
    r"journals?|standings?|findings?": "log, state, result",
    r"somebody|anyhow": "another process, someone; in any case",
}
# Names are texts too: an underscore ends a word.
PATTERN = re.compile("|".join(rf"((?<![a-z])(?:{word})(?![a-z]))" for word in WORDS), re.IGNORECASE)
# Where the other spelling is the point: a misspelled name of an operation, whose message suggests the right one.
ALLOWED = re.compile(r"\(\"Colour\", 1, 1\)")
FILES = sorted(
    path
    for pattern in (
        "src/**/*.py",
        "src/**/*.j2",
        "docs/**/*.md",
        "*.md",
        "*.toml",
        "Makefile",
        "examples/*.py",
        "benchmarks/*.py",
        "tests/**/*.py",
    )
    for path in ROOT.glob(pattern)
    if path.name not in ("test_words.py",)
)


def test_files_are_found() -> None:
    assert len(FILES) > 300


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words(path: Path) -> None:
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        for match in PATTERN.finditer(ALLOWED.sub("", line)):
            index = next(i for i, group in enumerate(match.groups()) if group is not None)
            found.append(f"{number}: {match[0]!r} -> {list(WORDS.values())[index]}: {line.strip()[:100]}")
    assert not found, "\n".join(found)
