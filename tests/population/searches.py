"""Searches with the fake trainer, and what of them must be the same."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fake_trainer import FakeTrainer, Script, Small, small_data

from rolewise.errors import Interrupted
from rolewise.objective import CrossEntropy
from rolewise.population import Plan, SearchResult, make_plan
from rolewise.population.engine import make_engine
from rolewise.progress import Progress
from rolewise.runs import RunDirectory
from rolewise.settings.search import SearchSettings


@dataclass
class Heard(Progress):
    """Keeps what a search reports."""

    notes: list = field(default_factory=list)
    images: int = 0
    rounds: list = field(default_factory=list)
    started: dict = field(default_factory=dict)
    finished: str = ""

    def start(self, stage, **about):
        self.started = {"stage": stage, **about}

    def batch(self, images):
        self.images += images

    def scores(self, epoch, scores, moves=()):
        self.rounds.append((epoch, list(scores), list(moves)))

    def finish(self, summary=""):
        self.finished = summary

    def note(self, text):
        self.notes.append(text)


def fake_plan(script: Script, seed: int = 3, model=None, init=None, **options) -> Plan:
    about = {name: options.pop(name) for name in ("schedules", "warm_start") if name in options}
    numbers = {"population": 8, "epochs": 12, "interval": 3, **options}
    return make_plan(
        model or Small(),
        small_data(),
        SearchSettings(**numbers),
        objective=CrossEntropy(),
        init=init,
        seed=seed,
        changes={"batch_size": 4},
        trainer=partial(FakeTrainer, script=script),
        **about,
    )


def run_fake(
    plan: Plan,
    folder: Path | None = None,
    *,
    workers=1,
    progress=None,
    stop=lambda: False,
    seconds=0.0,
    start=make_engine,
) -> SearchResult:
    """One session, begun or resumed in a folder; `start` makes the engine as `make_engine` does."""
    progress = progress or Heard()
    run = None
    if folder is not None:
        there = (folder / "config.json").exists()
        run = RunDirectory.open(folder) if there else RunDirectory.create(folder, {})
    try:
        with start(plan.spec, plan.settings, workers=workers, progress=progress) as engine:
            return plan.run(engine, run=run, checkpoint_seconds=seconds, progress=progress, should_stop=stop)
    finally:
        if run is not None:
            run.close()


def run_to_the_end(plan: Plan, folder: Path, stops, **about) -> tuple[SearchResult, int]:
    """Session after session, each until its stop says so; how often it was interrupted."""
    interrupted = 0
    for stop in stops:
        try:
            return run_fake(plan, folder, stop=stop, **about), interrupted
        except Interrupted:
            interrupted += 1
    return run_fake(plan, folder, **about), interrupted


class After:
    """Says stop from the n-th question on."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left < 0


def told(result: SearchResult, folder: Path) -> dict[str, bytes | list]:
    """All that must not depend on workers, engine or interruptions."""
    result.schedule.save(folder / "told.json")
    files = [folder / name for name in ("metrics.jsonl", "lineage.jsonl")]  # a control has no lineage
    logs = {file.name: file.read_bytes() if file.exists() else b"" for file in files}
    return {
        **logs,
        "schedule": (folder / "told.json").read_bytes(),
        "summary": result.summary(),
        "history": result.history,
    }
