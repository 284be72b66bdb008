"""Machine code that cannot be kept on disk costs one log line and a compilation, nothing else."""

import logging
import os
import subprocess
import sys
import textwrap

import numba
import numpy as np
import pytest
import torch
from numba.core.caching import NullCache
from PIL import Image

from rolewise.augment import (
    BatchAugmenter,
    Policy,
    RandAugment,
    apply_op,
    compiling,
    kernels,
    normalize,
    run_kernel,
)


@pytest.fixture(autouse=True)
def _untold(monkeypatch):
    monkeypatch.setitem(compiling._STATE, "warned", False)


def add_one(x):
    return x + 1


def test_without_a_writable_folder(monkeypatch, caplog):
    """What Numba raises then, at decoration; the second function says nothing more."""
    real = numba.njit

    def refusing(*arguments, **options):  # Numba itself calls it too, without options
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'add_one': no locator available for file 'kernels.py'")
        return real(*arguments, **options)

    monkeypatch.setattr(compiling.numba, "njit", refusing)
    with caplog.at_level(logging.WARNING, logger="rolewise"):
        assert compiling.compiled(add_one)(41) == 42
        assert compiling.compiled(add_one)(1) == 2
    assert [record.message for record in caplog.records] == [
        "Augmentation is recompiled in this process: cannot cache function 'add_one': no locator available for "
        "file 'kernels.py'"
    ]


def test_numba_refuses_as_the_test_above_supposes(tmp_path):
    """A module in a place that cannot be written, with no other place either."""
    (tmp_path / "unwritable.py").write_text(
        textwrap.dedent("""
        import logging
        logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
        from rolewise.augment.compiling import compiled
        @compiled
        def double(x):
            return 2 * x
        @compiled
        def triple(x):
            return 3 * x
        print(double(4) + triple(1))
        """)
    )
    # Only packages in archives may cache: so nothing is writable for a module in a folder.
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    command = [sys.executable, str(tmp_path / "unwritable.py")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout == "11\n"
    warnings = [line for line in shown.stderr.splitlines() if line.startswith("WARNING rolewise")]
    assert len(warnings) == 1
    assert "no locator available" in warnings[0]


def test_a_full_disk(monkeypatch, caplog):
    """Saving the machine code fails while the pass is compiled: it is done again without saving."""
    real = kernels.augment
    calls = []

    class Full:
        def __call__(self, *arguments):
            calls.append(len(arguments))
            if len(calls) == 1:
                raise OSError(28, "No space left on device")
            return real(*arguments)

    caches = {name: f._cache for name, f in vars(kernels).items() if isinstance(f, run_kernel.Dispatcher)}
    assert len(caches) > 15
    monkeypatch.setattr(kernels, "augment", Full())
    try:
        images = np.zeros((2, 4, 4, 3), np.uint8)
        with caplog.at_level(logging.WARNING, logger="rolewise"):
            result, _ = Policy.from_vector([10, 5] * 30).apply(images, seed=0, epoch=0)
        assert result.shape == images.shape
        assert len(calls) == 2
        assert "recompiled in this process: [Errno 28] No space left" in caplog.text
        assert all(
            isinstance(getattr(kernels, name)._cache, NullCache) for name in caches if name != "augment"
        )
    finally:
        for name, cache in caches.items():
            if name != "augment":
                getattr(kernels, name)._cache = cache


def test_nothing_is_fused_and_the_interpreter_is_not_held():
    assert kernels.augment.targetoptions["nogil"] is True
    assert kernels.augment.targetoptions["fastmath"] is False


def test_the_pass_is_compiled_once():
    """Whatever comes: read-only or not, NumPy or torch, any layout, any result."""
    images = np.zeros((2, 4, 5, 3), np.uint8)
    frozen = np.broadcast_to(np.uint8(3), images.shape)
    for given in (images, frozen, images.transpose(0, 3, 1, 2), torch.from_numpy(images)):
        Policy.none().apply(given, seed=0, epoch=0)
        normalize(given, (0.5,) * 3, (0.5,) * 3, dtype=torch.bfloat16, channels_last=True)
    apply_op("Rotate", np.zeros((1, 3, 3, 4), np.uint8), 3)
    RandAugment()(Image.fromarray(images[0]), ids=np.array([3]).astype(">i4"))
    BatchAugmenter((0.5,) * 3, (0.5,) * 3)(
        images, policy=None, seed=0, epoch=0, ids=[1], index=np.broadcast_to(np.int32(1), 1)
    )
    assert len(kernels.augment.signatures) == 1
