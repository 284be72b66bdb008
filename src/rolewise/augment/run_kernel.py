"""Starts the compiled pass, over several threads if asked."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

from rolewise.augment import kernels
from rolewise.augment.compiling import warn_once
from rolewise.augment.images import ImageBatch
from rolewise.augment.kernel_types import Head, Output, Program, Tail
from rolewise.errors import check_integer

NO_BYTES = np.zeros(0, np.uint8)
NO_FLOATS = np.zeros(0, np.float32)
NO_HALVES = np.zeros(0, np.uint16)
NO_MASK = np.zeros((0, 0), np.bool_)
NO_TRACE = np.zeros((0, 0, 4), np.int64)
NO_KEYS = np.zeros(3, np.uint64)  # where nothing is drawn
NO_TAIL = Tail(0, 0, 0, np.zeros((3, 256), np.float32))
NO_HEAD = Head(kernels.AS_IS, 0, 0, 0.0, 0.0, np.zeros(0, np.float64))
NO_OPS = Program(
    mode=kernels.CHOOSE,
    amount=0,
    chance=np.zeros(0, np.int64),
    kernel=np.zeros(0, np.int64),
    signed=np.zeros(0, np.int64),
    numbers=np.zeros((0, 2, 6), np.int64),
    factor=np.zeros((0, 2), np.float32),
    given=NO_TRACE,
)

_CHUNK = 32  # images that a thread takes at least: fewer cost more to hand over than to work on
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def output(
    *,
    pixels: np.ndarray = NO_BYTES,
    single: np.ndarray = NO_FLOATS,
    half: np.ndarray = NO_HALVES,
    interleaved: bool = True,
    channels: int = 3,
    exposed: np.ndarray = NO_MASK,
    trace: np.ndarray = NO_TRACE,
    fill: tuple[int, ...] = (),
) -> Output:
    """An `Output` of what is wanted."""
    colors = np.array(fill, np.uint8)
    return Output(pixels, single, half, int(interleaved), channels, exposed, trace, colors)


def run_kernel(
    images: ImageBatch,
    out: Output,
    *,
    ids: np.ndarray,
    keys: np.ndarray,
    index: np.ndarray | None = None,
    program: Program = NO_OPS,
    tail: Tail = NO_TAIL,
    head: Head = NO_HEAD,
    threads: int = 1,
) -> None:
    """Runs the pass over the images (those at `index`, if given); the bytes do not depend on `threads`."""
    index = np.arange(len(ids), dtype=np.int64) if index is None else index
    check_integer("threads", threads, 1, 1024)

    flat, index, ids, keys = (_fixed(array) for array in (images.flat, index, ids, keys))
    form = (int(images.interleaved), images.channels, images.height, images.width)

    def part(first: int, last: int) -> None:
        _call(flat, form, index, ids, (first, last), keys, (head, program, tail, out))

    n = len(ids)
    threads = min(threads, -(-n // _CHUNK))
    if threads <= 1:
        part(0, n)
        return
    # More chunks than threads, so that one slow core does not keep the others waiting.
    chunk = max(_CHUNK, -(-n // (4 * threads)))
    starts = range(0, n, chunk)
    list(_pool(threads).map(lambda first: part(first, min(first + chunk, n)), starts))


def _fixed(array: np.ndarray) -> np.ndarray:
    """A read-only view: one type for writable and read-only inputs, so that the pass is compiled once."""
    view = array.view()
    view.flags.writeable = False
    return view


def _pool(threads: int) -> ThreadPoolExecutor:
    """This process's pool: threads do not survive a fork, hence the process id."""
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="rolewise-augment")
    return _pools[key]


def _call(*arguments: object) -> None:
    """The compiled pass; where machine code cannot be kept (disk full, folder gone), compiled without keeping it."""
    try:
        kernels.augment(*arguments)
    except OSError as error:
        warn_once(error)
        for function in vars(kernels).values():
            if isinstance(function, Dispatcher):
                function._cache = NullCache()  # type: ignore[attr-defined]
        kernels.augment(*arguments)
