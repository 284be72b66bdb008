"""What a run ran on: versions, commit, hardware. No times, no host name: one machine always says the same."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from rolewise._machine import cores
from rolewise._version import __version__

PACKAGES = ("torch", "numpy", "numba", "pillow", "safetensors", "matplotlib", "filelock", "ray")

_PACKAGE = Path(__file__).resolve().parents[1]


def environment() -> dict[str, Any]:
    """Versions (`versions`), the commit if the package lies in a checkout (`commit`), and `hardware`.

    Memory is in bytes; `threads` is how many torch uses, which results on a CPU depend on.
    """
    versions = {"rolewise": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    hardware: dict[str, Any] = {
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory": _memory(),
        "gpus": _gpus(),
        "threads": torch.get_num_threads(),
    }
    return {"versions": versions, "commit": _commit(), "hardware": hardware}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, one sentence part each, such as `torch 2.13.0 -> 2.14.0`."""
    found = []
    for part in ("versions", "hardware"):
        old, new = before.get(part) or {}, now.get(part) or {}
        found += [
            f"{key} {old.get(key)} -> {new.get(key)}"
            for key in {**old, **new}
            if old.get(key) != new.get(key)
        ]
    if before.get("commit") != now.get("commit"):
        found.append(f"commit {before.get('commit')} -> {now.get('commit')}")
    return found


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _commit() -> str | None:
    """The commit of the checkout that holds this package, `+` behind it if files differ; None elsewhere."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=_PACKAGE, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie within a checkout of another project: it counts only if git tracks its file.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = git("rev-parse", "HEAD")
    return f"{commit}+" if commit and git("status", "--porcelain", "--", ".") else commit
