"""A list of units with a time of their own: what is done so far, in a file, and doing the rest."""

import gc
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
import torch
from gpu_parts import Figures

from rolewise.errors import InputError
from rolewise.runs import write_atomic

DONE, FAILED, BAD_INPUT, LOST = 0, 1, 2, 3
# What was expected before anything was measured: unit, keys of its figure, lowest, highest.
EXPECTED: Mapping[str, tuple[str, tuple[str, ...], float, float]] = {
    "float, recorded, images/s": ("throughput: plain", ("graphed", "images/s"), 40_000, 52_000),
    "4-bit, recorded, images/s": ("throughput: 4-bit", ("graphed", "images/s"), 25_000, 25_000),
    "4-bit and soft labels, recorded, images/s": (
        "throughput: 4-bit + soft",
        ("graphed", "images/s"),
        21_000,
        21_000,
    ),
    "4-bit and II-KD, recorded, images/s": (
        "throughput: 4-bit + ii-kd",
        ("graphed", "images/s"),
        9_000,
        15_000,
    ),
    "4 lanes to one, float": ("lanes: plain", ("4 lanes", "to one lane"), 1.2, 1.2),
    "4 lanes to one, II-KD": ("lanes: 4-bit + ii-kd", ("4 lanes", "to one lane"), 1.9, 1.9),
    "4 lanes to one, small network": ("lanes: small network", ("4 lanes", "to one lane"), 3.0, 6.0),
    "evaluation, batches of 4,000, images/s": ("evaluation", ("batch 4000", "images/s"), 110_000, 180_000),
}


@dataclass(frozen=True)
class Unit:
    """A part of the work.

    Args:
        call: does it; gets the time (monotonic) at which it should have ended.
        seconds: what it is expected to take on a large GPU.
        apart: whether a process of its own does it, which is ended when twice that time is over.
    """

    call: Callable[[float], Figures]
    seconds: float
    apart: bool = False


class Book:
    """What is done so far, kept in a file after each unit.

    Raises:
        InputError: the file in `out` is of another commit or other options.
    """

    def __init__(self, out: Path, about: Figures, machine: Figures) -> None:
        self.path, self._about = out / "gpu.json", about
        out.mkdir(parents=True, exist_ok=True)
        self.content: Figures = {**about, "machines": [], "figures": {}, "expected": []}
        if self.path.exists():
            found = json.loads(self.path.read_text("utf-8"))
            if self._other(found):
                raise InputError(f"{self.path} is of other {self._other(found)}. Name another `--out`.")
            self.content = found
        if machine not in self.content["machines"]:
            self.content["machines"].append(machine)
        self._machine = self.content["machines"].index(machine)

    def _other(self, found: Figures) -> str:
        """What `found` was made with that differs from this call."""
        return " and ".join(key for key in ("commit", "options") if found.get(key) != self._about[key])

    @property
    def figures(self) -> Figures:
        made: Figures = self.content["figures"]
        return made

    def reuse(self, path: Path) -> None:
        """Takes over the units of an earlier machine's file that are not here."""
        found = json.loads(path.read_text("utf-8"))
        if other := self._other(found):
            print(f"{path} is of other {other}: nothing of it is reused", file=sys.stderr)
            return
        places = {}
        for index, machine in enumerate(found["machines"]):
            if machine not in self.content["machines"]:
                self.content["machines"].append(machine)
            places[index] = self.content["machines"].index(machine)
        for name, figures in found["figures"].items():
            self.figures.setdefault(name, {**figures, "machine": places[figures["machine"]]})

    def done(self, name: str) -> bool:
        return name in self.figures and not self.figures[name].keys() & {"failed", "left out"}

    def keep(self, name: str, figures: Figures) -> None:
        self.figures[name] = {**figures, "machine": self._machine}
        if not self.content["options"]["smoke"]:
            self.content["expected"] = compared(self.figures)
        self._write()

    def begin(self, name: str) -> None:
        """Notes what is under way, so that a process that dies of it can be told from one that was stopped."""
        self.content["under way"] = name
        self._write()

    def end(self) -> None:
        """Nothing is under way."""
        if self.content.pop("under way", None) is not None:
            self._write()

    def _write(self) -> None:
        write_atomic(self.path, (json.dumps(self.content, indent=1) + "\n").encode())


def compared(figures: Figures) -> list[Figures]:
    """Expected values next to measured ones, where measured."""
    rows = []
    for what, (unit, keys, low, high) in EXPECTED.items():
        found = figures.get(unit, {})
        for key in (*keys, "median"):
            found = found.get(key, {}) if isinstance(found, dict) else {}
        if isinstance(found, int | float):
            rows.append({"what": what, "expected": [low, high], "measured": found})
    return rows


def _usable() -> bool:
    """Frees the device's memory; whether that is still possible: some errors end the use of it in a process."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    except RuntimeError:
        return False
    return True


def supervised(path: Path, start: Callable[[list[str]], int]) -> int:
    """Does the units in processes: one that dies of a unit costs that unit, and another one does the rest.

    Args:
        path: the file of the figures.
        start: starts a process that leaves out the units that it gets, waits for it, and returns its exit status.
    """
    fatal: list[str] = []
    while True:
        status = start(fatal)
        content = json.loads(path.read_text("utf-8")) if path.exists() else {}
        name = content.pop("under way", None)
        if name is None or name in fatal or (status >= 0 and status != LOST):
            return FAILED if fatal and status == DONE else status
        if status < 0:
            how = {"failed": f"the process died of {signal.Signals(-status).name}"}
            content["figures"][name] = {**how, "machine": len(content["machines"]) - 1}
            print(f"{name}: {how['failed']}; another process does the rest", file=sys.stderr, flush=True)
        write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())
        fatal.append(name)


def work(
    book: Book,
    todo: Mapping[str, Unit],
    left: Callable[[], float],
    run_apart: Callable[[str, float], Figures],
    slack: float = 2.0,
) -> int:
    """Does unit after unit, as far as the time allows; returns the exit status.

    Args:
        book: where figures are kept.
        todo: units by name, in their order.
        left: seconds that are left of the call.
        run_apart: does a unit, by name and end, in a process of its own.
        slack: a unit should have ended after so many times its expected seconds.
    """
    for name, unit in todo.items():
        if book.done(name):
            continue
        if left() < unit.seconds:
            book.keep(name, {"left out": f"{left():.0f} s left, about {unit.seconds:g} s needed"})
            continue
        book.begin(name)
        begun = time.monotonic()
        until = begun + min(left(), slack * unit.seconds)
        try:
            found = run_apart(name, until) if unit.apart else unit.call(until)
        except (
            Exception
        ) as error:  # out of memory, an operation that is missing: the rest is still worth having
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        found["seconds"] = round(time.monotonic() - begun, 2)
        book.keep(name, found)
        print(f"{name}: {json.dumps(found)[:2000]}", flush=True)
        gc.collect()
        if torch.cuda.is_available() and not _usable():
            print(f"{name}: the device answers no longer; another process does the rest", file=sys.stderr)
            return LOST
    book.end()
    for row in book.content["expected"]:
        low, high = row["expected"]
        print(f"{row['what']}: {row['measured']:,.4g}; expected {low:,} to {high:,}")
    bad = [name for name in todo if not book.done(name) or book.figures[name].get("ok") is False]
    for name in bad:
        print(f"failed, wrong or left out: {name}", file=sys.stderr)
    return FAILED if bad else DONE
