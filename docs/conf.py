"""The documentation site: `make docs`. Pages are Markdown, the reference comes from docstrings."""

from rolewise._version import __version__

project = "rolewise"
author = "The rolewise authors"
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
# Jaxtyping's shapes and docstrings that show formulas in indented blocks are no reStructuredText.
suppress_warnings = ["docutils", "autodoc", "myst.xref_missing_root"]
