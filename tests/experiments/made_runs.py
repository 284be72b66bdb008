"""Complete runs written by hand, so that results, claims and pages are tested on numbers that are known."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file

from rolewise.augment import Policy, Schedule
from rolewise.experiments.plan import Work
from rolewise.experiments.site import Site

ENVIRONMENT = {
    "commit": "0123456789abcdef",
    "hardware": {"cpu": "A processor", "cores": 2, "gpus": []},
    "versions": {"rolewise": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
}
IMAGES = 1000


def make_runs(site: Site, work: Iterable[Work], accuracy: Callable[[Work], float]) -> None:
    """Writes the run directory of each piece of work, trained to the accuracy that is given for it."""
    for one in work:
        path = site.run(one.name)
        path.mkdir(parents=True, exist_ok=True)
        record = {"format": "rolewise.run", "format_version": 1, "config": {"seed": one.seed}}
        (path / "config.json").write_text(json.dumps({**record, "environment": ENVIRONMENT}))
        (path / "stages.json").write_text(json.dumps({one.stage: {"info": {}, "marks": {}}}))
        cost = {"stage": one.stage, "images": 500, "seconds": 2.0, "cpu_seconds": 1.5, "finished": True}
        results: dict[str, object] = {"rows": [], "searches": {}, "costs": [cost]}
        if one.kind == "search":
            name = "A_T.json" if one.role == "teacher" else "A_S.json"
            searched_schedule(one).save(path / name)
            results["searches"] = {one.role: {"best": 0, "score": 0.5, "images": 500}}
        else:
            value = accuracy(one)
            results["rows"] = [
                {
                    "key": one.role,
                    "name": one.name,
                    "role": one.role,
                    "weight_bits": 4,
                    "act_bits": 4,
                    "epochs": 1,
                    "seed": one.seed,
                    "accuracy": value,
                    "loss": 1.0,
                    "n": IMAGES,
                    "accuracy_batch_statistics": value,
                }
            ]
            write_predictions(path / "tests" / f"{one.role}.safetensors", value)
        (path / "results.json").write_text(json.dumps(results))


def searched_schedule(work: Work) -> Schedule:
    """The teacher's changes twice and starts at once, the student's changes once, after 60 of 100 epochs."""
    one, two = (Policy.from_vector([value, 5] * 30) for value in (3, 6))
    if work.role == "teacher":
        return Schedule([(30, one), (30, two), (40, one)])
    return Schedule([(60, Policy.none()), (40, two)])


def write_predictions(path: Path, accuracy: float) -> None:
    """Logits that are right on the first images and wrong on the rest."""
    labels = torch.zeros(IMAGES, dtype=torch.int64)
    logits = torch.zeros(IMAGES, 2)
    logits[:, 1] = 1.0
    logits[: round(accuracy * IMAGES), 0] = 2.0
    path.parent.mkdir(exist_ok=True)
    save_file({"logits": logits, "labels": labels}, path)
