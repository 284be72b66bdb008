"""The documentation site: `make docs`. Pages are Markdown, the reference comes from docstrings."""

import re
from pathlib import Path

from sphinx.application import Sphinx

from rolewise._version import __version__

project = "rolewise"
author = "The rolewise authors"
html_show_copyright = False
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"rolewise {__version__}"
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape", ("Source", "notes_style")]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_mock_imports = ["ray", "openvino", "torchvision"]
default_role = "code"  # of `names` in docstrings

_LINK = re.compile(r"\[([^\]]+)\]\((\.\.?/[^)#\s]+)\)")
_DOCS = Path(__file__).resolve().parent


def _outside(app: Sphinx, name: str, source: list[str]) -> None:
    """Files of the repository that are no pages cannot be linked to from the site: they are named instead."""

    def named(link: re.Match[str]) -> str:
        target = (_DOCS / name).parent.joinpath(link[2]).resolve()
        if (
            target.is_relative_to(_DOCS) or not target.exists()
        ):  # a page, or a dead link, which Sphinx reports
            return link[0]
        path = target.relative_to(_DOCS.parent)
        return f"`{path}`" if link[1].strip("`/") in str(path) else f"{link[1]} (`{path}`)"

    source[0] = _LINK.sub(named, source[0])


def _losses(_app: Sphinx, name: str, source: list[str]) -> None:
    """Each loss of the table, in its order, in place of the comment `.. losses`."""
    if name == "api/kd":
        from rolewise.kd import LOSSES

        classes = (f"rolewise.kd.{loss.__name__}" for loss in LOSSES.values())
        shown = (f".. autoclass:: {path}\n   :members: paper, release, prepare\n" for path in classes)
        source[0] = source[0].replace(".. losses\n", "\n".join(shown))


def _bars(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Bars in formulas (|x|) are no substitutions of reStructuredText; within `backticks` they stay."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`+[^`]*`+)", line)
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _outside)
    app.connect("source-read", _losses)
    app.connect("autodoc-process-docstring", _bars)
