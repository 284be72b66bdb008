"""The numbers of a training: one definition for the settings file, `rw.train`, `rw.search` and the command line."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from rolewise.settings.base import Integer, Number, settings

Optimizer = Literal["sgd", "adam", "adamw"]
Rates = Literal["step", "cosine", "constant"]
DecayScope = Literal["all", "weights"]
Precision = Literal["auto", "fp32", "bf16"]


@settings
class TrainRecipe:
    """What a training does: all that its result depends on, apart from network, data, objective and seed.

    Source of the defaults: role-wise paper, section 5.1.
    """

    epochs: Integer = Field(default=200, ge=1, description="length of the training")
    batch_size: Integer = Field(
        default=128, ge=2, description="images a step; what is left over at the end of an epoch is dropped"
    )
    optimizer: Optimizer = Field(
        default="sgd",
        description="`sgd` (Nesterov momentum), `adam` (eps 1e-5) or `adamw` (decoupled weight decay, Loshchilov and "
        "Hutter, ICLR 2019)",
    )
    lr: Number = Field(default=0.1, gt=0, description="learning rate at the start")
    momentum: Number = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: Number = Field(default=5e-4, ge=0, description="factor of the L2 term in the gradient")
    decay_scope: DecayScope = Field(
        default="all", description="`all` parameters, or `weights` of convolutions and linear layers only"
    )
    milestones: tuple[Number, ...] = Field(
        default=(0.3, 0.6, 0.9),
        description="fractions of the training at which the learning rate of `step` is multiplied by `lr_factor`, and, "
        "whatever the rates, a decaying lambda by its factor",
    )
    lr_factor: Number = Field(default=0.1, gt=0, description="factor of the learning rate at a milestone")
    lr_schedule: Rates = Field(
        default="step",
        description="`step`: at the milestones; `cosine`: half a cosine down to 0 over the epochs (Loshchilov and "
        "Hutter, ICLR 2017); `constant`",
    )
    warmup_epochs: Integer = Field(
        default=0,
        ge=0,
        description="epochs in which the learning rate rises evenly (Goyal et al., 2017); 0: none",
    )
    quantizer_lr: Number | None = Field(
        default=None,
        gt=0,
        description="learning rate at the start of what a quantizer learns (LSQ's steps, PACT's bounds); None: `lr`, "
        "as Esser et al., ICLR 2020, leave it",
    )
    grad_clip: Number | None = Field(
        default=None,
        gt=0,
        description="greatest norm of the gradient of all parameters together (Pascanu et al., ICML 2013); None: no "
        "clip",
    )
    label_smoothing: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="part of the labels that is spread evenly over all classes (Szegedy et al., CVPR 2016)",
    )
    ema_decay: Number | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay, per step, of an exponential average of the weights (Polyak and Juditsky, 1992), which is "
        "tested and saved next to them",
    )
    ema_epochs: Integer | None = Field(
        default=None,
        ge=1,
        description="instead, the plain average of the weights after each of so many last epochs (Izmailov et al., UAI "
        "2018)",
    )
    mixup: Number | None = Field(
        default=None, gt=0, description="Mixup, parameter of its Beta distribution (Zhang et al., ICLR 2018)"
    )
    cutmix: Number | None = Field(
        default=None, gt=0, description="CutMix, parameter of its Beta distribution (Yun et al., ICCV 2019)"
    )
    mix_probability: Number = Field(
        default=1.0, ge=0, le=1, description="part of the images that are mixed, by `mixup` or `cutmix`"
    )
    ladder: tuple[Integer, ...] = Field(
        default=(),
        description="bits that a low-bit network goes down, such as [8, 4, 2] (Zhuang et al., CVPR 2018): each rung "
        "starts from the last with its quantizers, and the last is the network's own",
    )
    ladder_shares: tuple[Number, ...] = Field(
        default=(),
        validate_default=True,
        description="shares of the epochs that the rungs have, with sum 1; empty: equal shares",
    )
    count_level_changes: bool = Field(
        default=False,
        description="log the share of weights that take another level than an epoch before (Lee et al., ICCV 2025, "
        "schedule it)",
    )
    crop: Integer = Field(
        default=4, ge=0, description="pixels of zero padding (after normalization) before the random crop"
    )
    flip: bool = Field(default=True, description="random horizontal flip")
    cutout: Integer = Field(
        default=0, ge=0, description="side in pixels of a zero square at a random place; 0: none"
    )

    random_resized_crop: tuple[Number, Number] | None = Field(
        default=None,
        description="shares of the area, such as (0.08, 1), of a random part that is scaled to the image's size before "
        "the schedule's operations; None: off",
    )
    class_weights: Literal["balanced"] | tuple[Number, ...] | None = Field(
        default=None,
        description="factors of the classes' task losses: `balanced` (images / (classes * images of the class)), or "
        "one number a class; None: all 1",
    )

    @field_validator("random_resized_crop")
    @classmethod
    def _shares(cls, shares: tuple[float, float] | None) -> tuple[float, float] | None:
        if shares is not None and not 0 < shares[0] <= shares[1] <= 1:
            raise PydanticCustomError("shares", "must be two shares of the area, 0 < low <= high <= 1")
        return shares

    @field_validator("class_weights")
    @classmethod
    def _positive(cls, weights: Any) -> Any:
        if isinstance(weights, tuple) and (not weights or min(weights) < 0 or max(weights) <= 0):
            raise PydanticCustomError("weights", "must be numbers of at least 0, one a class, not all 0")
        return weights

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < one <= 1 for one in milestones) or list(milestones) != sorted(milestones):
            raise PydanticCustomError("milestones", "must be ascending fractions in (0, 1]")
        return milestones

    @field_validator("warmup_epochs")
    @classmethod
    def _shorter(cls, warmup: int, info: ValidationInfo) -> int:
        if warmup and warmup >= info.data.get("epochs", math.inf):
            raise PydanticCustomError("warmup", f"must be fewer than the {info.data['epochs']} epochs")
        return warmup

    @field_validator("ema_epochs")
    @classmethod
    def _one_average(cls, epochs: int | None, info: ValidationInfo) -> int | None:
        if epochs is not None and info.data.get("ema_decay") is not None:
            raise PydanticCustomError(
                "average", "must be None where `ema_decay` is given: there is one average"
            )
        if epochs is not None and epochs > info.data.get("epochs", math.inf):
            raise PydanticCustomError("average", f"must be at most the {info.data['epochs']} epochs")
        return epochs

    @field_validator("mix_probability")
    @classmethod
    def _of_something(cls, probability: float, info: ValidationInfo) -> float:
        if probability < 1 and info.data.get("mixup") is None and info.data.get("cutmix") is None:
            raise PydanticCustomError(
                "mixing", "must be left out where neither `mixup` nor `cutmix` is given: nothing is mixed"
            )
        return probability

    @field_validator("ladder")
    @classmethod
    def _descending(cls, ladder: tuple[int, ...]) -> tuple[int, ...]:
        falling = all(high > low for high, low in pairwise(ladder))
        if ladder and (len(ladder) < 2 or not falling or ladder[0] > 8 or ladder[-1] < 1):
            raise PydanticCustomError(
                "ladder", "must be two or more descending bit-widths from 8 to 1, such as [8, 4, 2]"
            )
        return ladder

    @field_validator("ladder_shares")
    @classmethod
    def _whole(cls, shares: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        rungs = len(info.data.get("ladder", ()))
        sound = len(shares) == rungs and all(one > 0 for one in shares) and abs(sum(shares) - 1) < 1e-6
        if shares and not rungs:
            raise PydanticCustomError("shares", "must be left out where there is no `ladder`")
        if shares and not sound:
            raise PydanticCustomError(
                "shares", f"must be {rungs} shares above 0 with sum 1, one for each rung"
            )
        epochs = info.data.get("epochs", math.inf)
        if rungs and epochs < math.inf and not all(_rungs(shares or _equal(rungs), epochs)):
            raise PydanticCustomError(
                "shares",
                f"must leave each of the {rungs} rungs of `ladder` one of the {epochs} epochs (empty: equal shares): "
                "take fewer rungs, more epochs or other shares",
            )
        return shares

    def passed(self, epoch: int) -> int:
        """How many milestones lie at or before the 0-based `epoch`."""
        return sum(epoch >= round(fraction * self.epochs) for fraction in self.milestones)

    def lr_at(self, epoch: int) -> float:
        """The learning rate in the 0-based `epoch`.

        In the k-th of w warm-up epochs (from 1) it is k / (w + 1) of `lr`; the cosine has the epochs behind them, and
        milestones count from the training's beginning. `torch.optim.lr_scheduler`'s LinearLR and CosineAnnealingLR give
        the same numbers.
        """
        if epoch < self.warmup_epochs:
            return self.lr * (epoch + 1) / (self.warmup_epochs + 1)
        if self.lr_schedule == "constant":
            return self.lr
        if self.lr_schedule == "cosine":
            part = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
            return self.lr * (1 + math.cos(math.pi * part)) / 2
        return self.lr * self.lr_factor ** self.passed(epoch)

    def bits_at(self, epoch: int) -> int | None:
        """The rung of the ladder in the 0-based `epoch`; None without a ladder. Each rung has an epoch at least."""
        if not self.ladder:
            return None
        lengths = _rungs(self.ladder_shares or _equal(len(self.ladder)), self.epochs)
        return self.ladder[sum(epoch >= end for end in accumulate(lengths[:-1]))]


def _equal(rungs: int) -> list[float]:
    return [1 / rungs] * rungs


def _rungs(shares: Sequence[float], epochs: int) -> list[int]:
    """The epochs of each rung: the ends of the shares, rounded; the last rung has one epoch at least."""
    ends = [round(sum(shares[: rung + 1]) * epochs) for rung in range(len(shares))]
    ends = [0, *(min(end, epochs - 1) for end in ends[:-1]), epochs]
    return [end - begin for begin, end in pairwise(ends)]


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
    record_steps: bool = Field(
        default=True,
        description="on a GPU record the training step once and repeat it; a step that cannot be stays",
    )
    device: str = Field(default="cpu", description="`cpu`, `cuda`, `cuda:1`, or `auto`")
