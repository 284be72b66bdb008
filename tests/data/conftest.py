"""Fixtures of the data tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from download_server import BODY, Server
from image_folders import picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with three training images and one test image each."""
    for number, name in enumerate(("dog", "cat")):
        for part, count in (("train", 3), ("test", 1)):
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for k in range(count):
                picture(100 * number + 10 * len(part) + k).save(place / f"{k}.png")
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(BODY)
    yield made
    made.close()
