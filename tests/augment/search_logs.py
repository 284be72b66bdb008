"""A population that copies and perturbs policies, and the logs that Ray's scheduler would write of it."""

import json
from dataclasses import dataclass

import numpy as np


@dataclass
class Search:
    """What really happened, and what was logged.

    Attributes:
        history: per trial the policy of every epoch of its final lineage, as vectors.
        whole: lines of `pbt_global.txt`.
        single: per trial the lines of its `pbt_policy_*.txt`, missing for one that was never overwritten.
    """

    history: list[list[list[int]]]
    whole: list[str]
    single: dict[int, list[str]]


def search(
    seed: int, *, trials: int = 8, epochs: int = 60, interval: int = 3, python: bool = False
) -> Search:
    """A search with random scores; `python` writes Python literals with bare vectors, else JSON configurations."""
    rng = np.random.default_rng(seed)
    policies = [[0] * 60 for _ in range(trials)]
    found = Search([[] for _ in range(trials)], [], {})
    for epoch in range(interval, epochs + 1, interval):
        for trial in range(trials):
            found.history[trial] += [policies[trial]] * interval
        if epoch == epochs:
            break
        ranked = rng.permutation(trials).tolist()
        if epoch < epochs // 2:  # a good trial without a file of its own: those who copy it keep stale lines
            ranked.remove(0)
            ranked.insert(0, 0)
        for target in sorted(ranked[-2:]):
            source = ranked[int(rng.integers(2))]
            new = [int(rng.integers(11 - entry % 2)) for entry in range(60)]
            line = _line(target, source, epoch, policies[source], new, epochs, python)
            found.whole.append(line)
            if source in found.single:
                found.single[target] = list(found.single[source])
            found.single.setdefault(target, []).append(line)
            found.history[target] = list(found.history[source])
            policies[target] = new
    for trial in range(trials):
        found.history[trial] += [policies[trial]] * (epochs - len(found.history[trial]))
    return found


def _line(
    target: int, source: int, epoch: int, old: list[int], new: list[int], epochs: int, python: bool
) -> str:
    if python:
        return repr([str(target), str(source), epoch - 1, epoch, old, new])
    common = {"lr": 0.001, "num_epochs": epochs, "dataset": "cifar100", "no_cutout": True, "name": None}
    old_config, new_config = ({**common, "hp_policy": vector} for vector in (old, new))
    return json.dumps([str(target), str(source), epoch - 1, epoch, old_config, new_config])
