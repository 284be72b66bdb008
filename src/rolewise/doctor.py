"""What this machine has, and what is missing: versions, optional packages, processor, memory, disk."""

import importlib
import shutil
from pathlib import Path
from typing import Any

from rolewise.errors import how_to_install

_OPTIONAL = {
    "ray": "ray",
    "onnx": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
    "tensorboard": "tensorboard",
    "torchvision": "vision",
    "huggingface_hub": "hub",
}


def examine() -> dict[str, Any]:
    """Versions and hardware, the optional packages' state, and what rolewise would choose here."""
    from rolewise._machine import cores
    from rolewise.runs import environment
    from rolewise.trainer import TrainSettings

    chosen = TrainSettings(1, device="auto").resolved()
    found = environment()
    hardware = dict(found.get("hardware") or {})
    if isinstance(hardware.get("memory"), int):
        hardware["memory"] = f"{hardware['memory'] / 1e9:.1f} GB"
    return {
        "environment": {**found, "hardware": hardware},
        "optional packages": {name: _state(name, extra) for name, extra in _OPTIONAL.items()},
        "choices": {
            "device": chosen.device,
            "precision": chosen.precision,
            "channels_last": chosen.channels_last,
            "threads and workers": cores(),
        },
        "free disk here": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB",
        "compiled augmentation": _kernels(),
    }


def _state(name: str, extra: str) -> str:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return f"not installed: {how_to_install(extra)}"
    except (RuntimeError, OSError) as error:  # a build that does not fit torch raises these on import
        return f"installed, but broken: {error}"
    return str(getattr(module, "__version__", "installed"))


def _kernels() -> str:
    """Runs one augmentation, so that a broken compiler or cache shows here and not in a run."""
    import numpy as np

    from rolewise.augment import apply_op

    image = np.zeros((1, 4, 4, 4), dtype=np.uint8)
    apply_op("Invert", image, np.zeros(1, dtype=np.int64))
    return "works"
