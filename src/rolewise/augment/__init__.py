"""Augmentation: ops that equal Pillow's byte for byte, policies, and schedules of policies."""

from rolewise.augment.apply import apply_op
from rolewise.augment.baselines import RandAugment, TrivialAugment
from rolewise.augment.batch import BatchAugmenter, normalize
from rolewise.augment.ops import OPS, Op
from rolewise.augment.policy import Applied, BasePolicy, Policy
from rolewise.augment.schedule import Schedule
from rolewise.augment.transform import AugmentedDataset, ScheduleTransform

__all__ = [
    "OPS",
    "Applied",
    "AugmentedDataset",
    "BasePolicy",
    "BatchAugmenter",
    "Op",
    "Policy",
    "RandAugment",
    "Schedule",
    "ScheduleTransform",
    "TrivialAugment",
    "apply_op",
    "normalize",
]
