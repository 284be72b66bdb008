"""The numbers of a training: one definition for the settings file, `rw.train`, `rw.search` and the command line."""

from typing import Literal, TypedDict

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from rolewise.settings.base import Integer, Number, settings

Optimizer = Literal["sgd", "adam"]
DecayScope = Literal["all", "weights"]
Precision = Literal["auto", "fp32", "bf16"]


@settings
class TrainRecipe:
    """What a training does: all that its result depends on besides network, data, objective and seed.

    Source of the defaults: role-wise paper, section 5.1.
    """

    epochs: Integer = Field(default=200, ge=1, description="length of the training")
    batch_size: Integer = Field(
        default=128, ge=2, description="images a step; what is left over at the end of an epoch is dropped"
    )
    optimizer: Optimizer = Field(default="sgd", description="`sgd` (Nesterov momentum) or `adam` (eps 1e-5)")
    lr: Number = Field(default=0.1, gt=0, description="learning rate at the start")
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: Number = Field(default=5e-4, ge=0, description="factor of the L2 term in the gradient")
    decay_scope: DecayScope = Field(
        default="all", description="`all` parameters, or `weights` of convolutions and linear layers only"
    )
    milestones: tuple[Number, ...] = Field(
        default=(0.3, 0.6, 0.9),
        description="fractions of the training at which the learning rate is multiplied by `lr_factor`",
    )
    lr_factor: Number = Field(default=0.1, gt=0, description="factor of the learning rate at a milestone")
    crop: Integer = Field(
        default=4, ge=0, description="pixels of zero padding (after normalization) before the random crop"
    )
    flip: bool = Field(default=True, description="random horizontal flip")
    cutout: Integer = Field(
        default=0, ge=0, description="side in pixels of a zero square at a random place; 0: none"
    )

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < one <= 1 for one in milestones) or list(milestones) != sorted(milestones):
            raise PydanticCustomError("milestones", "must be ascending fractions in (0, 1]")
        return milestones

    def passed(self, epoch: int) -> int:
        """How many milestones lie at or before the 0-based `epoch`."""
        return sum(epoch >= round(fraction * self.epochs) for fraction in self.milestones)

    def lr_at(self, epoch: int) -> float:
        """The learning rate in the 0-based `epoch`."""
        return self.lr * self.lr_factor ** self.passed(epoch)


@settings
class ComputeSettings:
    """How it is computed: none of it is a part of the method, though the last bits of a result depend on it."""

    eval_batch: Integer | None = Field(
        default=None, ge=1, description="images a batch of an evaluation; None: what suits the device"
    )
    precision: Precision = Field(
        default="auto", description="`fp32`, `bf16`, or `auto`: bf16 where the processor computes in it"
    )
    channels_last: bool | None = Field(
        default=None, description="memory format of convolutions; None: where bf16 is used or on a GPU"
    )
    compile: bool = Field(
        default=False,
        description="torch.compile of the networks in the training step (a minute at the start)",
    )
    device: str = Field(default="cpu", description="`cpu`, `cuda`, `cuda:1`, or `auto`")


class RecipeOptions(TypedDict, total=False):
    """The fields of `TrainRecipe` as single arguments, but for the length."""

    batch_size: int
    optimizer: Optimizer
    lr: float
    momentum: float
    weight_decay: float
    decay_scope: DecayScope
    milestones: tuple[float, ...]
    lr_factor: float
    crop: int
    flip: bool
    cutout: int


class TrainOptions(RecipeOptions, total=False):
    """All settings of a training as single arguments, such as `rw.train(..., batch_size=64)`."""

    eval_batch: int | None
    precision: Precision
    channels_last: bool | None
    compile: bool
    device: str
    threads: int


# The paper's low-bit students: Adam, weight decay on weights alone; all else as in `TrainRecipe`.
STUDENT: RecipeOptions = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-5, "decay_scope": "weights"}
