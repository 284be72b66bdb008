"""A short form of the fuzzing: whatever is broken, a command ends with a message and a status (long: `make soak`)."""

import random
import time
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, faulty, unforeseen

SECONDS = {"settings": 12, "records": 20, "schedules": 4, "networks": 6, "folders": 4, "archives": 4}


@pytest.mark.parametrize("name", list(TARGETS))
def test_no_traceback(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    faults, count = [], 0
    attempts = TARGETS[name](tmp_path, random.Random(name))
    end = None
    for attempt in attempts:
        end = end or time.monotonic() + SECONDS[name]  # what a target prepares does not count
        count += 1
        if faulty(attempt) or unforeseen(attempt):
            faults.append(attempt)
        if time.monotonic() > end:
            break
    assert count >= 5
    assert not faults, "\n\n".join(
        f"{what}\n-> {status}: {errors[-2000:]}" for what, status, errors in faults[:5]
    )
