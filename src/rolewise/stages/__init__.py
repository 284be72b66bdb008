"""The paper's two stages and the baselines, on a run directory: what is complete is not done again."""

from rolewise.stages.forecast import estimate
from rolewise.stages.pipeline import Pipeline, baselines, run_all, stage_alpha, stage_beta
from rolewise.stages.trainings import SCHEDULES, TRAININGS, Training

__all__ = [
    "SCHEDULES",
    "TRAININGS",
    "Pipeline",
    "Training",
    "baselines",
    "estimate",
    "run_all",
    "stage_alpha",
    "stage_beta",
]
