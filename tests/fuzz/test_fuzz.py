"""A short form of the fuzzing: whatever is broken, a command ends with a message and a status (long: `make soak`)."""

import itertools
import random
import time
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, faulty, unforeseen

# The same attempts on every machine; a slow one ends earlier, after so many seconds.
ATTEMPTS = {
    "settings": 800,
    "records": 150,
    "schedules": 800,
    "networks": 400,
    "folders": 300,
    "archives": 600,
}
SECONDS = 10


@pytest.mark.parametrize("name", list(TARGETS))
def test_no_traceback(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    faults, count, end = [], 0, None
    for attempt in itertools.islice(TARGETS[name](tmp_path, random.Random(name)), ATTEMPTS[name]):
        end = end or time.monotonic() + SECONDS  # what a target prepares does not count
        count += 1
        if faulty(attempt) or unforeseen(attempt):
            faults.append(attempt)
        if time.monotonic() > end:
            break
    assert count >= 5
    assert not faults, "\n\n".join(
        f"{what}\n-> {status}: {errors[-2000:]}" for what, status, errors in faults[:5]
    )
