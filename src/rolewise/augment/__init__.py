"""Augmentation: ops that equal Pillow's byte for byte, policies, and schedules of policies."""

from rolewise.augment.apply import apply_op
from rolewise.augment.baselines import AutoAugment, RandAugment, TrivialAugment
from rolewise.augment.batch import BatchAugmenter, normalization_table, normalize
from rolewise.augment.mixing import Mixing, MixPlan, mix_images, mix_labels
from rolewise.augment.named import NAMED, PUBLISHED, find_schedule
from rolewise.augment.ops import OPS, Op
from rolewise.augment.policy import Applied, BasePolicy, Policy
from rolewise.augment.schedule import Schedule
from rolewise.augment.spaces import SPACES, Space
from rolewise.augment.transform import AugmentedDataset, ScheduleTransform

__all__ = [
    "NAMED",
    "OPS",
    "PUBLISHED",
    "SPACES",
    "Applied",
    "AugmentedDataset",
    "AutoAugment",
    "BasePolicy",
    "BatchAugmenter",
    "MixPlan",
    "Mixing",
    "Op",
    "Policy",
    "RandAugment",
    "Schedule",
    "ScheduleTransform",
    "Space",
    "TrivialAugment",
    "apply_op",
    "find_schedule",
    "mix_images",
    "mix_labels",
    "normalization_table",
    "normalize",
]
