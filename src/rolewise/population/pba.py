"""Population based augmentation as a search algorithm; its decisions are those of `rolewise.population.pbt`."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from rolewise.augment import Schedule
from rolewise.population.pbt import exploit, explore
from rolewise.population.strategy import Decision, Strategy, Vector


class PBA(Strategy):
    """The worst members become copies of the best, each under a mutated policy.

    Source: Ho et al., "Population Based Augmentation", ICML 2019.
    """

    name: ClassVar[str] = "pbt"
    warm_starts: ClassVar[bool] = True

    def beginnings(self, seed: int, role: str) -> list[Schedule]:
        return [self.warm_start or Schedule.none(self.settings.epochs)] * self.settings.population

    def decide(
        self, scores: Sequence[float | None], vectors: Sequence[Vector | None], rng: np.random.Generator
    ) -> list[Decision]:
        moves = exploit(scores, rng, quantile=self.settings.quantile)
        decisions = []
        for target, source in moves:
            vector = vectors[source]
            assert vector is not None  # beginnings hold PBA policies alone
            new = explore(vector, rng, resample=self.settings.resample)
            decisions.append(Decision(target, source, tuple(new)))
        return decisions
