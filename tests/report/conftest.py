"""Made-up runs, each written once per session; tests that change one copy it."""

from pathlib import Path

import pytest
from synthetic_run import SMALL, make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind by name: see `make_run`."""
    root = tmp_path_factory.mktemp("runs")
    kinds = ("complete", "searching", "searched", "training", "teacher", "train-alone")
    return {kind: make_run(root / kind, until=kind, **SMALL) for kind in kinds}  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def demo(made: dict[str, Path]) -> Path:
    """A complete run of the demo's size."""
    return made["complete"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete stage alpha that is quickly drawn."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    return make_run(folder, until="teacher", population=4, epochs=4, interval=2, training=3, n=360)
