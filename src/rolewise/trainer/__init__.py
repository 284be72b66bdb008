"""Training one network: `train()`, and the `Trainer` beneath it and beneath every member of a search."""

from rolewise.trainer.checks import check_classes, check_schedule
from rolewise.trainer.classes import class_weights, confusion_matrix, per_class_accuracy
from rolewise.trainer.evaluation import EpochMetrics, Evaluation, evaluate
from rolewise.trainer.feed import Batch, Feeder
from rolewise.trainer.fit import Result, best_state, final_test, fit, train
from rolewise.trainer.identity import check_identity, describe_objective
from rolewise.trainer.loop import Trainer
from rolewise.trainer.settings import TrainSettings, student_settings, teacher_settings, torch_threads
from rolewise.trainer.state import State

__all__ = [
    "Batch",
    "EpochMetrics",
    "Evaluation",
    "Feeder",
    "Result",
    "State",
    "TrainSettings",
    "Trainer",
    "best_state",
    "check_classes",
    "check_identity",
    "check_schedule",
    "class_weights",
    "confusion_matrix",
    "describe_objective",
    "evaluate",
    "final_test",
    "fit",
    "per_class_accuracy",
    "student_settings",
    "teacher_settings",
    "torch_threads",
    "train",
]
