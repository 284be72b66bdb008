"""The numbers of a training as single arguments of functions, with their types, and the paper's for its students."""

from typing import Literal, TypedDict

from rolewise.settings.train import DecayScope, Optimizer, Precision, Rates


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
    lr_schedule: Rates
    warmup_epochs: int
    quantizer_lr: float | None
    grad_clip: float | None
    label_smoothing: float
    ema_decay: float | None
    ema_epochs: int | None
    mixup: float | None
    cutmix: float | None
    mix_probability: float
    ladder: tuple[int, ...]
    ladder_shares: tuple[float, ...]
    count_level_changes: bool
    crop: int
    flip: bool
    cutout: int
    random_resized_crop: tuple[float, float] | None
    class_weights: Literal["balanced"] | tuple[float, ...] | None


class TrainOptions(RecipeOptions, total=False):
    """All settings of a training as single arguments, such as `rw.train(..., batch_size=64)`."""

    eval_batch: int | None
    precision: Precision
    channels_last: bool | None
    compile: bool
    record_steps: bool
    device: str
    threads: int


# The paper's low-bit students: Adam, weight decay on weights alone; all else as in `TrainRecipe`.
STUDENT: RecipeOptions = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-5, "decay_scope": "weights"}
