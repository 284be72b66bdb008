"""Role-wise data augmentation for knowledge distillation into low-bit networks.

`search(...)` finds a `Schedule`, `train(...)` uses it; teacher and student differ in the *objective* alone.
"""

from typing import TYPE_CHECKING, Any

from rolewise._version import __version__ as __version__

if TYPE_CHECKING:
    from rolewise import kd, networks
    from rolewise.augment import Policy, Schedule
    from rolewise.data import Data, load_data
    from rolewise.objective import CrossEntropy, Distill
    from rolewise.population import search
    from rolewise.pretrained import export, from_pretrained, load_network, save_pretrained
    from rolewise.quant import quantize
    from rolewise.trainer import Result, train

# Resolved at first use (PEP 562): `import rolewise` costs milliseconds, `rolewise --help` imports no torch.
_HOMES = {
    "CrossEntropy": "rolewise.objective",
    "Data": "rolewise.data",
    "Distill": "rolewise.objective",
    "Policy": "rolewise.augment",
    "Result": "rolewise.trainer",
    "Schedule": "rolewise.augment",
    "export": "rolewise.pretrained",
    "from_pretrained": "rolewise.pretrained",
    "kd": "",
    "load_data": "rolewise.data",
    "load_network": "rolewise.pretrained",
    "networks": "",
    "quantize": "rolewise.quant",
    "save_pretrained": "rolewise.pretrained",
    "search": "rolewise.population",
    "train": "rolewise.trainer",
}

__all__ = [  # noqa: RUF022 - the order of the README
    "Schedule",
    "Policy",
    "load_data",
    "Data",
    "search",
    "train",
    "Result",
    "CrossEntropy",
    "Distill",
    "kd",
    "networks",
    "quantize",
    "export",
    "load_network",
    "save_pretrained",
    "from_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    home = _HOMES[name]
    value = (
        getattr(importlib.import_module(home), name)
        if home
        else importlib.import_module(f"{__name__}.{name}")
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
