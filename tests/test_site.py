"""The documentation site: `make docs` builds it without a warning, and every public name is on it."""

import importlib
import pkgutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import rolewise

ROOT = Path(__file__).resolve().parents[1]
PARTS = sorted(
    name
    for name in (f"rolewise.{module.name}" for module in pkgutil.iter_modules(rolewise.__path__))
    if name not in ("rolewise.cli", "rolewise.config") and hasattr(importlib.import_module(name), "__all__")
)


def build(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason="needs `pip install -e '.[docs]'`")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(docs), str(site)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def described(site: Path) -> set[str]:
    """The names in the site's index, which other projects link by (format of Sphinx, version 2)."""
    compressed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(compressed).decode().splitlines()}


def test_parts_are_found():
    assert {"rolewise.augment", "rolewise.kd", "rolewise.stages"} <= set(PARTS)
    assert len(PARTS) >= 14


def test_site(tmp_path):
    built = build(ROOT / "docs", tmp_path / "site")
    assert built.returncode == 0, built.stderr
    names = described(tmp_path / "site")
    missing = [
        f"{part}.{name}"
        for part in ["rolewise", *PARTS]
        for name in importlib.import_module(part).__all__
        if not any(f"{place}.{name}" in names for place in {part, "rolewise"} | _homes(part, name))
    ]
    assert not missing
    assert {f"rolewise.kd.{loss.__name__}" for loss in rolewise.kd.LOSSES.values()} <= names
    # A page of this name would be overwritten by Sphinx's own.
    assert not {"search", "genindex", "py-modindex"} & {page.stem for page in (ROOT / "docs").glob("*.md")}


def _homes(part: str, name: str) -> set[str]:
    """Other places where a public name may be described: its own module's package; a module describes itself."""
    value = getattr(importlib.import_module(part), name)
    home = getattr(value, "__module__", None)
    return {".".join(home.split(".")[:2])} if isinstance(home, str) else {part}


def test_dead_links_fail(tmp_path):
    """Each kind is reported: a page, a heading, a file of the repository, an image."""
    docs = tmp_path / "docs"
    docs.mkdir()
    conf = (ROOT / "docs" / "conf.py").read_text("utf-8")
    (docs / "conf.py").write_text(f'{conf}\nhtml_theme = "basic"\n', "utf-8")
    (docs / "data.md").write_text("# Data\n\n[Here](index.md#first).\n", "utf-8")
    (docs / "index.md").write_text("# First\n\n```{toctree}\ndata\n```\n\n[There](data.md#data).\n", "utf-8")
    assert build(docs, tmp_path / "site").returncode == 0
    dead = ("nowhere.md", "data.md#nowhere", "../src/nowhere.py", "nowhere.svg")
    with (docs / "index.md").open("a", encoding="utf-8") as page:
        page.writelines(f"\n[Nowhere]({link}).\n" for link in dead)
    built = build(docs, tmp_path / "site")
    assert built.returncode != 0
    assert len(built.stderr.splitlines()) == len(dead), built.stderr
