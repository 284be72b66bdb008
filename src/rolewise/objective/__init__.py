"""What is minimized. An objective owns forward and backward of a batch: the clip of the KD gradient needs two.

Nothing in `backward` waits for the device: lambda and sigmoid(epoch) are device scalars, metrics stay tensors, shapes
are static, so a whole step can be captured once and replayed.
"""

from rolewise.objective.base import INITS, CrossEntropy, Init, Objective, Placement, checked
from rolewise.objective.clip import clip_and_add
from rolewise.objective.distill import Distill
from rolewise.objective.mutual import MutualLearning

__all__ = [
    "INITS",
    "CrossEntropy",
    "Distill",
    "Init",
    "MutualLearning",
    "Objective",
    "Placement",
    "checked",
    "clip_and_add",
]
