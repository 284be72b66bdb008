"""What the fake CUDA device consists of: its library, and stand-ins for what would touch a device.

Importing this registers the device, which must come before `import torch`.
"""

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

TORCH = Path(str(importlib.util.find_spec("torch").submodule_search_locations[0])).resolve()


def load_device() -> None:
    """Compiles the library, where that was not done yet, and registers the device."""
    source = Path(__file__).with_name("fake_cuda_device.cpp")
    key = hashlib.sha256(source.read_bytes() + f"{metadata.version('torch')} {TORCH}".encode()).hexdigest()[
        :16
    ]
    folder = Path(tempfile.gettempdir()) / f"rolewise-fake-cuda-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    library = folder / f"{key}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}")
        links = [f"-L{TORCH}/lib", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{TORCH}/lib"]
        flags = ["-O0", "-w", "-std=c++20", "-fPIC", "-shared", f"-I{TORCH}/include"]
        subprocess.run(["g++", *flags, str(source), *links, "-o", str(made)], check=True)
        made.rename(library)
    ctypes.CDLL(str(TORCH / "lib" / "libtorch_global_deps.so"), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library))


load_device()
import torch  # noqa: E402

if torch.version.cuda or torch.accelerator.current_accelerator() is None:
    raise SystemExit(
        "The fake CUDA device needs a CPU build of PyTorch, and must be there before PyTorch is."
    )


def conv_format(images: torch.Tensor, weight: torch.Tensor, _backend: object) -> torch.memory_format:
    """cuDNN's: channels_last where one of both is."""
    last = torch.channels_last
    one = any(
        t.is_contiguous(memory_format=last) and not t.is_contiguous()
        for t in (images, weight)
        if t.dim() == 4
    )
    return last if one else torch.contiguous_format


def apply(module: torch.nn.Module, function: Callable[..., Any], recurse: bool = True) -> torch.nn.Module:
    """`nn.Module._apply` without swapping tensors, which fake ones do not permit."""
    for child in module.children():
        apply(child, function)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                made = function(parameter)
            module._parameters[name] = torch.nn.Parameter(made, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


class Stream:
    """Everything on it is done at once."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def wait_stream(self, other: "Stream") -> None: ...
    def wait_event(self, event: object) -> None: ...
    def record_event(self, event: object = None) -> "Event":
        return Event()

    def synchronize(self) -> None: ...


class Event(Stream):
    def record(self, stream: object = None) -> None: ...
    def query(self) -> bool:
        return True

    def elapsed_time(self, other: "Event") -> float:
        return 1.0


class Graph:
    """What was recorded is not replayed."""

    def replay(self) -> None: ...
    def reset(self) -> None: ...


def nothing(*_: object, **__: object) -> None:
    """In place of what touches a device."""
