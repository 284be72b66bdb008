"""A CUDA device without values: shapes, types and devices of everything that would run on it, and what waits for it.

    with fake_cuda() as watch:
        trainer = Trainer(..., settings(device="cuda"))
        with watch.phase("step"):
            trainer.train_step(batch)
    assert not watch.violations("step")

A small library makes autograd believe in one CUDA device
(`fake_cuda_device.cpp`, compiled once), `FakeTensorMode` keeps track of
shapes and devices on it, and the CPU's own work is done with values. An operation on tensors of two devices raises, as
on a GPU. What is copied to the CPU is zero there. A recorded graph is not replayed, but what CUDA refuses while it
records is refused.

It cannot see values, memory, time, the order between streams, or layouts that only cuDNN chooses. Import it before
PyTorch is asked for CUDA, in a process of its own.
"""

import collections
import contextlib
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

from fake_parts import TORCH, Event, Graph, Stream, apply, conv_format, nothing  # isort: skip - before torch
import torch
import torch._subclasses.fake_tensor as fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes as no_modes
from torch.utils._pytree import tree_leaves, tree_map_only

SHAPED = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "argwhere"}
SLOW = {"_linalg_eigh", "_linalg_svd", "linalg_eig", "geqrf", "linalg_qr"}  # on CUDA matrix by matrix
NO_KERNEL = {
    "detach", "alias", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "set_",
    "_reshape_alias", "sym_size", "sym_stride", "sym_numel", "is_same_size",
}  # fmt: skip
HERE = __file__.removesuffix("cuda.py")  # this file and its parts
_lock = threading.Lock()
_pinned: dict[int, torch.Tensor] = {}  # by the address of their memory, which they hold


fake_tensor.CONSTANT_NUMEL_LIMIT = -1  # else constants are computed with, on a device that is not there
warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")


def place() -> str:
    """File, line and function of the innermost Python that is neither PyTorch's nor this file's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((str(TORCH), HERE, "<")) and "/lib/python3" not in name:
            short = name.split("/src/")[-1] if "/src/" in name else "/".join(name.split("/")[-2:])
            return f"{short}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return "a backward pass"


def tensors_of(values: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


class Watch(TorchDispatchMode):
    """Sees every operation on the device.

    Attributes:
        notes: by phase, how often which of these happened where:
            WAIT: the host reads a value or a shape of the device;
            COPY: host to device from pageable memory, where the host waits and no graph can hold it;
            SLOW: a decomposition that CUDA does matrix by matrix;
            LAYOUT: a fused optimizer whose tensors differ in strides.
        launches: by phase, how often each operation was called that launches something.
        capturing: whether a graph is being recorded; then WAIT and COPY raise, as CUDA does.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self._mode, self._phase, self.capturing = mode, "elsewhere", False
        self.notes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.launches: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    @contextlib.contextmanager
    def phase(self, name: str, *, capturing: bool = False) -> Iterator[None]:
        before = self._phase, self.capturing
        self._phase, self.capturing = name, capturing
        try:
            yield
        finally:
            self._phase, self.capturing = before

    def violations(self, phase: str, allowed: tuple[str, ...] = ()) -> list[str]:
        """The notes of a phase, but waits in the functions that are `allowed` to."""
        return [
            note
            for note in self.notes[phase]
            if not (note.startswith("WAIT") and note.endswith(tuple(f" in {name}" for name in allowed)))
        ]

    def _note(self, kind: str, what: str) -> None:
        where = place()
        with _lock:
            self.notes[self._phase][f"{kind}: {what} at {where}"] += 1
        if self.capturing and kind in ("WAIT", "COPY"):
            raise RuntimeError(f"operation not permitted when stream is capturing: {what} at {where}")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if (
            torch.is_inference_mode_enabled() and function.namespace == "aten"
        ):  # nothing has taken composed operations apart yet
            with self:
                result = function.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        name = str(function).split(".")[1]
        if function.namespace == "prim":  # asks a tensor for its device
            return function(*args, **kwargs)
        given = tensors_of((args, kwargs))
        devices = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
        if not any(isinstance(t, FakeTensor) for t in given) and not any(d.type == "cuda" for d in devices):
            return self._on_the_cpu(function, args, kwargs)
        if name == "copy_" and not isinstance(args[0], FakeTensor):
            return self._to_the_host(args, kwargs)
        pinned = any(
            t.untyped_storage().data_ptr() in _pinned for t in given if not isinstance(t, FakeTensor)
        )
        if not name.startswith("lift"):
            args, kwargs = tree_map_only(torch.Tensor, self._fake, (args, kwargs))
        given = tensors_of((args, kwargs))
        on_device = any(tensor.device.type == "cuda" for tensor in given)
        if on_device and (read := self._look(name, args)) is not None:
            return read
        if name.startswith("_fused_"):  # has no shape function: devices and strides are compared here
            self._optimizer(name, args)
            self.launches[self._phase][name] += 1
            return None
        result = function(*args, **kwargs)
        if name in ("_to_copy", "copy_"):
            result = self._copied(name, args, kwargs, result, pinned)
        on_device = on_device or any(tensor.device.type == "cuda" for tensor in tensors_of(result))
        if on_device and not function.is_view and name not in NO_KERNEL:
            with _lock:
                self.launches[self._phase][name] += 1
        return result

    def _fake(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self._mode.from_tensor(tensor)

    def _on_the_cpu(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        with no_modes():  # the CPU's own work is done, with values
            if not kwargs.get("pin_memory"):
                return function(*args, **kwargs)
            return remember(function(*args, **kwargs | {"pin_memory": False}))

    def _to_the_host(self, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        """A copy into a tensor of the CPU, whose values stay what they are."""
        target: torch.Tensor = args[0]
        later = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
        if not (later and target.untyped_storage().data_ptr() in _pinned):
            self._note("WAIT", "copy to the CPU")
        return target

    def _look(self, name: str, args: Any) -> Any:
        """Notes what waits; returns a value where one is read."""
        if name == "_local_scalar_dense":
            self._note("WAIT", "a value is read (.item(), float(), bool(), .tolist())")
            dtype = args[0].dtype
            return True if dtype == torch.bool else (1.0 if dtype.is_floating_point else 1)
        if name in ("is_nonzero", "equal"):
            self._note("WAIT", name)
            return True
        if name in SHAPED:
            self._note("WAIT", f"{name}, whose shape follows from the data")
        if name in SLOW:
            self._note("SLOW", name)
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            if any(t.dtype in (torch.bool, torch.uint8) for t in tensors_of(args[1])):
                self._note("WAIT", f"{name} by a mask")
            if any(t.device.type == "cpu" for t in tensors_of(args[1])):
                self._note("COPY", f"{name} by indices on the CPU")
        return None

    def _optimizer(self, name: str, args: Any) -> None:
        lists = [value for value in args if isinstance(value, list | tuple) and value]
        devices = {str(tensor.device) for tensor in tensors_of(lists)}
        if len(devices) > 1:
            raise RuntimeError(f"{name}: tensors on {sorted(devices)}")
        for group in zip(*lists, strict=False):
            strides = {  # a stride means nothing where there is one entry
                tuple(step for size, step in zip(t.shape, t.stride(), strict=True) if size > 1)
                for t in group if isinstance(t, torch.Tensor) and t.dim()
            }  # fmt: skip
            if len(strides) > 1:
                self._note("LAYOUT", name)

    def _copied(self, name: str, args: Any, kwargs: dict[str, Any], result: Any, pinned: bool) -> Any:
        source, target = (args[1], args[0]) if name == "copy_" else (args[0], result)
        later = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        ends = source.device.type, target.device.type
        if ends == ("cpu", "cuda") and not (later and pinned):
            self._note("COPY", "from pageable memory")
        if ends == ("cuda", "cpu"):
            self._note("WAIT", "copy to the CPU")
            with no_modes():
                return torch.zeros(target.shape, dtype=target.dtype)
        return result


def remember(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, which from now on counts as pinned."""
    with _lock:
        _pinned[tensor.untyped_storage().data_ptr()] = tensor
    return tensor


def pin(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    with no_modes():
        return remember(tensor.clone())


@contextlib.contextmanager
def fake_cuda() -> Iterator[Watch]:
    """While it lasts "cuda" is there."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    watch = Watch(mode)
    cuda, accelerator = torch.cuda, torch.accelerator

    @contextlib.contextmanager
    def record(graph: Graph, *_: object, **__: object) -> Iterator[None]:
        with watch.phase("recording", capturing=True):
            yield

    run = threading.Thread.run
    one_lane = threading.Lock()

    def run_seen(thread: threading.Thread) -> None:
        """The lanes of a search compute on the device as well; modes are a thread's own, so one lane at a time."""
        if not thread.name.startswith("rolewise-lane"):
            run(thread)
            return
        with one_lane, mode, watch:
            run(thread)

    properties = types.SimpleNamespace(
        name="fake", total_memory=2**36, multi_processor_count=132, major=9, minor=0
    )
    capturing = lambda: watch.capturing  # noqa: E731
    patches: list[tuple[Any, str, Any]] = [
        (cuda, "is_available", lambda: True), (cuda, "device_count", lambda: 1), (cuda, "current_device", lambda: 0),
        (cuda, "is_bf16_supported", lambda including_emulation=True: True), (cuda, "_lazy_init", nothing),
        (cuda, "_exchange_device", lambda _: 0), (cuda, "_maybe_exchange_device", lambda _: 0),
        (cuda, "set_device", nothing), (cuda, "synchronize", nothing), (cuda, "empty_cache", nothing),
        (cuda, "reset_peak_memory_stats", nothing), (cuda, "max_memory_allocated", lambda *_: 0),
        (cuda, "memory_allocated", lambda *_: 0), (cuda, "mem_get_info", lambda *_: (2**36, 2**36)),
        (cuda, "get_device_name", lambda *_: "fake"), (cuda, "get_device_properties", lambda *_: properties),
        (cuda, "get_device_capability", lambda *_: (9, 0)), (cuda, "is_current_stream_capturing", capturing),
        (cuda, "Stream", Stream), (cuda, "Event", Event), (cuda, "CUDAGraph", Graph), (cuda, "graph", record),
        (cuda, "graph_pool_handle", nothing), (cuda, "stream", lambda _: contextlib.nullcontext()),
        (cuda, "current_stream", lambda *_: Stream()), (cuda, "default_stream", lambda *_: Stream()),
        (cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda")),
        (accelerator, "current_stream", lambda *_: types.SimpleNamespace(is_capturing=capturing)),
        (FakeTensorMode, "avoid_device_init", True),  # torch.tensor(..., device="cuda") goes by way of the CPU
        (torch._C, "_conv_determine_backend_memory_format", conv_format),
        (torch.Tensor, "pin_memory", pin), (torch.Tensor, "record_stream", nothing), (torch.nn.Module, "_apply", apply),
        (threading.Thread, "run", run_seen), (cuda, "init", nothing), (cuda, "default_generators", [torch.Generator()]),
        (cuda, "get_rng_state", lambda *_: torch.zeros(16, dtype=torch.uint8)), (cuda, "set_rng_state", nothing),
    ]  # fmt: skip
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        with mode, watch:
            yield watch
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        _pinned.clear()
