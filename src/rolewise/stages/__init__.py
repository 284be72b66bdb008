"""The paper's two stages and the baselines, on a run directory: what is complete is not done again."""

from rolewise.stages.check import check
from rolewise.stages.estimate import estimate
from rolewise.stages.opening import open_pipeline, settings_of
from rolewise.stages.pipeline import Pipeline
from rolewise.stages.run import baselines, run_all, search_role, stage_alpha, stage_beta, train_role
from rolewise.stages.trainings import TRAININGS, Training

__all__ = [
    "TRAININGS",
    "Pipeline",
    "Training",
    "baselines",
    "check",
    "estimate",
    "open_pipeline",
    "run_all",
    "search_role",
    "settings_of",
    "stage_alpha",
    "stage_beta",
    "train_role",
]
