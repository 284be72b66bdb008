"""Lets this checkout be imported where it is not installed, and where jaxtyping is missing.

jaxtyping only annotates shapes, in almost every module of the package, and nothing but tests looks at the annotations.
Import this before `rolewise`.
"""

import sys
import types
from pathlib import Path
from typing import Any


class _Shape:
    """`Float[Tensor, "n k"]` is `Tensor`."""

    def __class_getitem__(cls, item: Any) -> Any:
        return item[0]


def _shape(name: str) -> type[_Shape]:
    """`Float` and the like; what Python itself asks of a module is not there."""
    if not name[0].isupper():
        raise AttributeError(name)
    return _Shape


def stand_in() -> bool:
    """Puts a stand-in where jaxtyping is missing; returns whether it was."""
    try:
        import jaxtyping  # noqa: F401
    except ImportError:
        module = types.ModuleType("jaxtyping", "A stand-in for the package, which is not installed.")
        vars(module)["__getattr__"] = _shape
        sys.modules["jaxtyping"] = module
        return True
    return False


sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
JAXTYPING_MISSING = stand_in()
