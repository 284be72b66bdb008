"""Distillation losses: what student and teacher must agree on. One published loss per file.

`LOSSES` maps names to classes and imports a loss when it is asked for; `load_loss` also takes a user's file.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from rolewise.errors import InputError, InputTypeError, unknown
from rolewise.kd.base import KDLoss, Outputs
from rolewise.own_code import find_own_code, is_own_code, load_own_code, own_errors

if TYPE_CHECKING:
    from rolewise.kd.dml import DML
    from rolewise.kd.iikd import IIKD
    from rolewise.kd.kdsvd import KDSVD
    from rolewise.kd.mhgd import MHGD
    from rolewise.kd.rkd import RKD
    from rolewise.kd.soft import SoftLabels

# One row per loss: name, module, class. The paper's six come first.
_HOMES = {
    "soft": ("soft", "SoftLabels"),
    "dml": ("dml", "DML"),
    "rkd": ("rkd", "RKD"),
    "mhgd": ("mhgd", "MHGD"),
    "kd-svd": ("kdsvd", "KDSVD"),
    "ii-kd": ("iikd", "IIKD"),
    "at": ("at", "AT"),
    "fitnet": ("fitnet", "FitNet"),
    "sp": ("sp", "SP"),
    "cc": ("cc", "CC"),
    "pkt": ("pkt", "PKT"),
    "vid": ("vid", "VID"),
    "nst": ("nst", "NST"),
    "ft": ("ft", "FT"),
    "ab": ("ab", "AB"),
    "fsp": ("fsp", "FSP"),
    "crd": ("crd", "CRD"),
    "dkd": ("dkd", "DKD"),
    "dist": ("dist", "DIST"),
    "reviewkd": ("reviewkd", "ReviewKD"),
    "ofd": ("ofd", "OFD"),
    "logit-std": ("logit_std", "LogitStandardization"),
}
_CLASSES = {class_name: module for module, class_name in _HOMES.values()}

__all__ = [
    "DML",
    "IIKD",
    "KDSVD",
    "LOSSES",
    "MHGD",
    "RKD",
    "VARIANTS",
    "KDLoss",
    "Outputs",
    "SoftLabels",
    "load_loss",
]


class _Losses(Mapping[str, type[KDLoss]]):
    """Name -> class, in published order; a module is imported when its loss is asked for."""

    def __getitem__(self, name: str) -> type[KDLoss]:
        module, class_name = _HOMES[name]
        loss: type[KDLoss] = getattr(importlib.import_module(f"{__name__}.{module}"), class_name)
        return loss

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)

    def __contains__(self, name: object) -> bool:
        return name in _HOMES

    def __repr__(self) -> str:
        return f"LOSSES({', '.join(_HOMES)})"


LOSSES: Mapping[str, type[KDLoss]] = _Losses()


VARIANTS = ("recommended", "paper", "release")


def load_loss(spec: str, *, variant: str = "recommended", **arguments: Any) -> KDLoss:
    """The loss that `spec` names, made with `arguments`.

    Args:
        spec: a name of `LOSSES`, or "FILE.py:Class" for one of your own. That file is run as a program.
        variant: "recommended" (the plain constructor), "paper" or "release" (the class methods of these names).
        arguments: constructor arguments.
    Raises:
        InputError: an unknown name, a missing file or class, or arguments that the class refuses.
        InputTypeError: the class is no `KDLoss`, or does not take these arguments or their types.
    """
    own = is_own_code(spec) or ":" in spec
    if own:
        loss = _class_from_file(spec)
    elif spec in LOSSES:
        loss = LOSSES[spec]
    else:
        hint = 'A loss of your own is given as "FILE.py:Class".'
        raise InputError(f"{unknown('KD loss', spec, LOSSES)} {hint}")
    if variant not in VARIANTS:
        raise InputError(unknown("variant of a KD loss", variant, VARIANTS))
    make = loss if variant == "recommended" else getattr(loss, variant)
    call = f"{loss.__name__}({', '.join(arguments)})"
    guard = own_errors(find_own_code(spec, "loss")[0], call) if own else nullcontext()
    try:
        inspect.signature(loss).bind(**arguments)
        with guard:
            made: KDLoss = make(**arguments)
    except InputError:
        raise
    except TypeError as error:
        known = ", ".join(
            one.name if one.default is one.empty else f"{one.name}={one.default!r}"
            for one in inspect.signature(loss).parameters.values()
        )
        raise InputTypeError(
            f'The KD loss "{spec}" cannot be made with these settings: {error}. Its arguments: {known or "none"}.'
        ) from error
    return made


def _class_from_file(spec: str) -> type[KDLoss]:
    """The class of "FILE.py:Class"; its objects can travel to processes that have not run the file."""
    code = load_own_code(spec, "loss")
    path, class_name, loss = code.path, code.name, code.value
    if not isinstance(loss, type):
        raise InputTypeError(f'"{class_name}" in "{path}" must be a class, got a {type(loss).__name__}.')
    if not issubclass(loss, KDLoss):
        raise InputTypeError(
            f'"{class_name}" in "{path}" must be a subclass of rolewise.kd.KDLoss, '
            f"its bases are {', '.join(base.__name__ for base in loss.__bases__)}."
        )
    # Pickle would look for the module by name, which another process does not know: say where the file is.
    loss.__reduce_ex__ = lambda self, _protocol: (  # type: ignore[method-assign]
        _blank,
        (str(path), class_name),
        self.__dict__,
    )
    known: type[KDLoss] = loss
    return known


def _blank(path: str, class_name: str) -> KDLoss:
    """An object of a class of a user's file whose state is still to come."""
    loss = _class_from_file(f"{path}:{class_name}")
    return loss.__new__(loss)


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_CLASSES})
