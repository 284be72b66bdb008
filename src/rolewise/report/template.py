"""The templates of the pages: every text is escaped unless it is marked, every name must be given."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, context: Mapping[str, Any]) -> str:
    """The page that a template of this package makes of `context`."""
    environment = Environment(
        loader=PackageLoader("rolewise.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)
