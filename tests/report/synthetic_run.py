"""Run directories as a pipeline would leave them, made up; written without the package's own writers of logs."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rolewise.augment import Policy, Schedule

ENVIRONMENT = {
    "versions": {"rolewise": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.4.6"},
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "hardware": {
        "platform": "Linux-x86_64",
        "cpu": "A processor",
        "cores": 2,
        "memory": 25276502016,
        "gpus": [],
        "threads": 2,
    },
}
# Sizes of a run that a test makes in no time.
SMALL = {"population": 8, "epochs": 10, "interval": 2, "training": 20, "n": 360}
ROWS = [
    ("teacher", "Teacher resnet18, A_T", "teacher", "A_T", None, False, 0.972),
    ("student", "Student resnet18, ii-kd, A_S", "student", "A_S", "ii-kd", False, 0.956),
    ("student-plain", "Student resnet18, no KD, no schedule", "student", None, None, True, 0.939),
    ("student-kd", "Student resnet18, ii-kd, no schedule", "student", None, "ii-kd", True, 0.950),
    ("student-a-t", "Student resnet18, ii-kd, A_T", "student", "A_T", "ii-kd", True, 0.947),
]


@dataclass
class Search:
    """One made-up search: what it logs and the schedule that it ends in."""

    role: str
    population: int
    epochs: int
    interval: int
    quiet: int  # epochs before which the winner's history has no augmentation
    seed: int
    stop: int | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0
    score: float = 0.0
    overwritten: bool = False
    segments: list[tuple[int, list[int]]] = field(default_factory=list)

    def run(self) -> "Search":
        rng = np.random.default_rng(self.seed)
        skill = rng.normal(0, 0.02, self.population)
        vectors = [[0] * 60 for _ in range(self.population)]
        history: list[list[tuple[int, list[int]]]] = [[] for _ in range(self.population)]
        bounds = [*range(self.interval, self.epochs, self.interval), self.epochs]
        start = 0
        for end in bounds:
            scores: dict[int, float | None] = {}
            for member in range(self.population):
                history[member].append((end - start, vectors[member]))
                skill[member] = 0.9 * skill[member] + rng.normal(0, 0.008)
                level = 0.78 * (1 - math.exp(-4 * end / self.epochs)) + skill[member]
                scores[member] = float(np.clip(round(level, 4), 0.05, 0.99))
                about = {"stage": f"search-{self.role}", "role": self.role, "member": member, "epoch": end}
                score = scores[member]
                self.metrics.append(
                    {**about, "split": "validation", "accuracy": score, "loss": 1 - (score or 0)}
                )
            if end == bounds[-1] or (self.stop is not None and end >= self.stop):
                break
            order = sorted(scores, key=lambda member: (-(scores[member] or 0), member))
            count = max(1, math.ceil(self.population / 4))
            for target in sorted(order[-count:]):
                source = int(rng.choice(order[:count]))
                old = vectors[source]
                new = self._explore(old, rng, end)
                self.lineage.append(
                    {
                        "role": self.role,
                        "epoch": end,
                        "target": target,
                        "source": source,
                        "target_score": scores[target],
                        "source_score": scores[source],
                        "old": old,
                        "new": new,
                    }
                )
                vectors[target], history[target] = new, list(history[source])
                skill[target] = skill[source]
            start = end
        self.best = min(scores, key=lambda member: (-(scores[member] or 0), member))
        self.score = scores[self.best] or 0.0
        self.segments = history[self.best]
        self.overwritten = any(line["target"] == self.best for line in self.lineage)
        return self

    def _explore(self, vector: list[int], rng: np.random.Generator, epoch: int) -> list[int]:
        if epoch < self.quiet:
            return [0] * 60
        new = []
        for entry, value in enumerate(vector):
            high = 9 if entry % 2 else 10
            if rng.random() < 0.2:
                new.append(int(rng.integers(0, high + 1)))
            else:
                new.append(int(np.clip(value + int(rng.integers(-3, 4)), 0, high)))
        return new

    def schedule(self) -> Schedule:
        segments = [(length, Policy.from_vector(vector)) for length, vector in self.segments]
        policies = [policy for length, policy in segments for _ in range(length)]
        return Schedule.from_policies(policies, role=self.role, provenance={"source": "a test"})


def config(population: int, epochs: int, interval: int, training: int) -> dict[str, Any]:
    train = {"epochs": training, "batch_size": 128, "lr": 0.1, "milestones": [0.3, 0.6, 0.9], "flip": True}
    return {
        "preset": "demo",
        "seed": 0,
        "baselines": [key for key, _, _, _, _, baseline, _ in ROWS if baseline],
        "data": {"name": "cifar100", "root": "/data/with <b>tags</b> & blanks", "size": 32},
        "teacher": {"network": "resnet18", "arguments": {}, "train": train, "file": None, "schedule": None},
        "student": {
            "network": None,
            "weight_bits": 4,
            "act_bits": 4,
            "train": {**train, "lr": 0.001},
            "schedule": None,
        },
        "search": {"population": population, "epochs": epochs, "interval": interval, "engine": "local"},
        "kd": {"loss": "ii-kd", "weight": None},
        "machine": {"device": "cpu", "precision": "fp32"},
    }


def trainings(keys: list[str], epochs: int, seed: int, stop: int | None = None) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl` for the final trainings; `stop` cuts the last of them short."""
    lines = []
    rng = np.random.default_rng(seed)
    for key, _, role, schedule, kd, _, accuracy in ROWS:
        if key not in keys:
            continue
        last = stop if stop is not None and key == keys[-1] else epochs
        about = {"stage": f"train-{key}", "role": role, "member": None}
        for epoch in range(1, last + 1):
            progress = 1 - math.exp(-4.5 * epoch / epochs)
            reached = accuracy - (0.06 if schedule else -0.02)
            value = min(0.999, reached * progress + float(rng.normal(0, 0.004)))
            loss = 2.3 * (1 - progress) + (0.4 if kd else 0.1)
            values = {"accuracy": round(value, 5), "loss": round(loss, 5), "lr": 0.1}
            lines.append({**about, "split": "train", "epoch": epoch, **values})
        if last == epochs:
            lines.append({**about, "split": "test", "epoch": epochs, "accuracy": accuracy, "loss": 0.12})
    return lines


def make_run(
    folder: Path,
    *,
    population: int = 16,
    epochs: int = 200,
    interval: int = 3,
    training: int = 200,
    until: str = "complete",
    n: int = 10_000,
    seed: int = 0,
) -> Path:
    """A run directory.

    Args:
        until: "complete", "searching" (a killed search), "searched", "training" (a killed training), "teacher" (stage
            alpha alone), "train-alone" (a student without any search).
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "format": "rolewise.run",
        "format_version": 1,
        "config": config(population, epochs, interval, training),
        "environment": ENVIRONMENT,
    }
    (folder / "config.json").write_text(json.dumps(record))
    roles = {"complete": 2, "train-alone": 0}.get(until, 1)
    stop = epochs // 2 if until == "searching" else None
    quiets = {"teacher": interval, "student": int(0.28 * epochs)}
    searches = {
        role: Search(role, population, epochs, interval, quiets[role], seed + number, stop).run()
        for number, role in enumerate(("teacher", "student")[:roles])
    }
    keys = {"complete": [row[0] for row in ROWS], "teacher": ["teacher"], "training": ["teacher"]}.get(
        until, []
    )
    keys = ["student"] if until == "train-alone" else keys
    done = [] if until == "training" else keys
    metrics = [line for search in searches.values() for line in search.metrics]
    metrics += trainings(keys, training, seed, stop=training // 3 if until == "training" else None)
    lineage = [line for search in searches.values() for line in search.lineage]
    for name, lines in (("metrics", metrics), ("lineage", lineage)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if until != "searching":
        for role, search in searches.items():
            search.schedule().save(folder / {"teacher": "A_T.json", "student": "A_S.json"}[role])
    if until not in ("searching", "training"):
        write_results(folder, searches, done, training, n)
    return folder


def write_results(folder: Path, searches: dict[str, Search], done: list[str], training: int, n: int) -> None:
    rows = [
        {
            "key": key,
            "name": name,
            "role": role,
            "network": "resnet18",
            "weight_bits": 32 if role == "teacher" else 4,
            "act_bits": 32 if role == "teacher" else 4,
            "quantizer": None if role == "teacher" else "dorefa",
            "init": "random" if role == "teacher" else "teacher",
            "kd": kd,
            "schedule": schedule,
            "schedule_sha256": hashlib.sha256(schedule.encode()).hexdigest() if schedule else None,
            "no_operation": False,
            "accuracy": round(accuracy * n) / n,
            "loss": 0.12,
            "n": n,
            "accuracy_batch_statistics": accuracy - 0.002,
            "epochs": training,
            "training": hashlib.sha256(key.encode()).hexdigest()[:16],
            "precision": "fp32",
            "seed": 0,
            "baseline": baseline,
        }
        for key, name, role, schedule, kd, baseline, accuracy in ROWS
        if key in done
    ]
    if not searches:
        rows = [{**row, "schedule": "trivialaugment"} for row in rows]
    costs = [
        {"stage": f"search-{role}", "seconds": 5210.4, "cpu_seconds": 10211.0, "images": 12_697_600}
        for role in searches
    ]
    costs += [
        {"stage": f"train-{row['key']}", "seconds": 912.5, "cpu_seconds": 1790.2, "images": 9_984_000}
        for row in rows
    ]
    found = {
        role: {
            "best": search.best,
            "score": search.score,
            "overwritten": search.overwritten,
            "population": search.population,
            "rounds": len({line["epoch"] for line in search.lineage}),
        }
        for role, search in searches.items()
    }
    (folder / "results.json").write_text(json.dumps({"rows": rows, "costs": costs, "searches": found}))


if __name__ == "__main__":
    import sys

    for name in sys.argv[2:]:
        if name == "demo":
            small = {"population": 8, "epochs": 10, "interval": 2, "training": 20, "n": 360}
            make_run(Path(sys.argv[1]) / "demo", **small)  # type: ignore[arg-type]
        else:
            make_run(Path(sys.argv[1]) / name, until=name)
