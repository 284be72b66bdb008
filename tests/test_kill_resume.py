"""The whole pipeline is killed again and again, in every stage and during a checkpoint; the resumed run ends with the
same bytes as runs that were left alone."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from rolewise.runs import load_json
from rolewise.runs.titles import stage_title

SETTINGS = """
data: {search_train: 128, search_validation: 128}
search: {population: 4, epochs: 5, interval: 1}
teacher: {train: {epochs: 6, batch_size: 64}}
student: {train: {epochs: 6, batch_size: 64}}
kd: {prepare_epochs: 1}
machine: {checkpoint_seconds: 0, threads: 1, workers: 2}
baselines: false
"""
STAGES = ("search-teacher", "train-teacher", "search-student", "train-student")
RESULTS = (
    "A_T.json",
    "A_S.json",
    "kd.safetensors",
    "teacher.safetensors",
    "student.safetensors",
    "lineage.jsonl",
)


class Run:
    """The command as a process of its own; its progress lines say where it is."""

    def __init__(self, arguments: list[str], crash_at: int | None = None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("ROLEWISE_CRASH_AT", None)
        if crash_at is not None:
            environment["ROLEWISE_CRASH_AT"] = str(crash_at)
        command = [sys.executable, "-m", "rolewise.cli", "run", "--no-speed", *arguments]
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, stage: str, seconds: float = 120) -> bool:
        """Until a line is about `stage`; False if the process ends before."""
        title = f"{stage_title(stage)}:"
        with self._news:
            self._news.wait_for(
                lambda: any(title in line for line in self.lines) or not self._reader.is_alive(),
                seconds,
            )
            return any(title in line for line in self.lines)

    def end(self, seconds: float = 300) -> int:
        status = self.process.wait(seconds)
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def kill(self) -> int:
        self.process.kill()
        return self.end()


def contents(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in RESULTS}


def current_stage(run: Path) -> str:
    done = load_json(run / "stages.json") if (run / "stages.json").exists() else {}
    return next((stage for stage in STAGES if stage not in done), "finished")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[dict[str, bytes], Path, Path]:
    """Two runs with one seed; they must agree before a third can be held against them."""
    folder = tmp_path_factory.mktemp("reference")
    settings = folder / "settings.yaml"
    settings.write_text(SETTINGS)
    for name in ("one", "two"):
        run = Run(["--out", str(folder / name), "--config", str(settings), "--seed", "5"])
        assert run.end() == 0, "".join(run.lines)
    return contents(folder / "one"), folder / "two", settings


def test_two_runs_with_one_seed_give_the_same_bytes(reference):
    first, second, _ = reference
    assert contents(second) == first
    assert len(load_file(second / "student.safetensors")) > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_ten_times_ends_with_the_same_bytes(reference, tmp_path):
    expected, _, settings = reference
    run_path = tmp_path / "killed"
    chance = random.Random(11)
    arguments = ["--out", str(run_path), "--config", str(settings), "--seed", "5"]
    killed: Counter[str] = Counter()
    for stage in STAGES:
        for seconds in (0.0, chance.uniform(0, 0.6)):
            if current_stage(run_path) not in STAGES[: STAGES.index(stage) + 1]:
                break  # a fast machine has completed it
            run = Run(arguments)
            assert run.wait_for(stage), "".join(run.lines)
            time.sleep(seconds)
            if run.kill() == -9:  # else it was through before the signal came
                killed[current_stage(run_path)] += 1
            arguments = ["--resume", str(run_path)]
        for attempt in range(5):  # at least two, and until one is amid a checkpoint
            if not _killed_itself(run_path, chance):
                break
            inside = any(path.name.startswith(".tmp") for path in (run_path / "checkpoints").rglob("*"))
            killed[current_stage(run_path)] += 1
            killed["during a checkpoint"] += inside
            if inside and attempt:
                break
    last = Run(arguments)
    assert last.end() == 0, "".join(last.lines)
    kills = sum(killed[stage] for stage in STAGES)
    print(f"{kills} kills: {dict(killed)}")
    assert kills >= 10
    assert all(killed[stage] >= 1 for stage in STAGES), f"a stage was never killed: {dict(killed)}"
    assert killed["during a checkpoint"] >= 1
    assert contents(run_path) == expected


def _killed_itself(run_path: Path, chance: random.Random) -> bool:
    """Whether the process killed itself at one of the next steps of writing files; fewer than a stage has."""
    return Run(["--resume", str(run_path)], crash_at=chance.randrange(4, 16)).end() != 0


def test_sigterm_saves_within_a_batch_and_exits_with_75(reference, tmp_path):
    expected, _, settings = reference
    run_path = tmp_path / "stopped"
    arguments = ["--out", str(run_path), "--config", str(settings), "--seed", "5"]
    stops = 0
    for stage in ("search-teacher", "train-student"):
        run = Run(arguments)
        assert run.wait_for(stage), "".join(run.lines)
        time.sleep(0.2)
        run.process.terminate()
        if run.end() == 75:
            stops += 1
            assert "Resume with: rolewise run --resume" in "".join(run.lines)
        arguments = ["--resume", str(run_path)]
    last = Run(arguments)
    assert last.end() == 0, "".join(last.lines)
    assert stops >= 1
    assert contents(run_path) == expected
