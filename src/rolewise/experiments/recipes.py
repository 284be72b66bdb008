"""Lengths and numbers of an experiment's trainings, and where the paper and its released code differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rolewise.bits import FULL
from rolewise.config import PRESETS, Config, changed
from rolewise.errors import InputError, unknown
from rolewise.experiments.setups import Setup

Tree = dict[str, Any]
# The paper's: 200 epochs, batches of 128, searches of 16 members on 4,000 and 36,000 images (section 5.1).
_PAPER: Tree = {"data": {"search_train": 4000, "search_validation": 36000}}
# Real images, real networks, and as little of everything as still runs each kind of work once.
_SMOKE: Tree = {
    "data": {"train_images": 48, "test_images": 100, "search_train": 48, "search_validation": 32},
    "teacher": {"train": {"epochs": 2, "batch_size": 24, "warmup_epochs": 0}},
    "student": {"train": {"epochs": 2, "batch_size": 24, "warmup_epochs": 0}},
    "search": {"population": 4, "epochs": 2, "interval": 1},
    "kd": {"prepare_epochs": 1},
}


def _paper(setup: Setup) -> Tree:
    del setup
    return _PAPER


def _strong(setup: Setup) -> Tree:
    """The numbers of the presets, where low-bit students have some that others do not have."""
    low_bit = setup.role == "student" and setup.bits < FULL
    preset = PRESETS["strong-cifar100-resnet18-w4a4" if low_bit else "strong-cifar100-resnet8-fp32"]
    return {**_PAPER, **{role: {"train": preset[role]["train"]} for role in ("teacher", "student")}}


RECIPES: dict[str, Callable[[Setup], Tree]] = {"paper": _paper, "strong": _strong}


@dataclass(frozen=True)
class Choice:
    """A setting for which the paper and its released code have different values.

    Args:
        name: word for `--follow-release`.
        keys: settings and values of the released code.
        paper: the paper's way, in words.
        cifar10: values for CIFAR-10 where they differ from those for CIFAR-100.
    """

    name: str
    keys: Mapping[str, Any]
    paper: str
    cifar10: Mapping[str, Any] = field(default_factory=dict)

    def values(self, data: str) -> Mapping[str, Any]:
        """Settings and values for a data set."""
        return {**self.keys, **(self.cifar10 if data == "cifar10" else {})}


# Otherwise the paper is followed. Names as in the documentation, `docs/experiments.md`.
CHOICES = {
    choice.name: choice
    for choice in (
        Choice(
            "lambda", {"kd.lambda_mode": "ignored"}, "the weight of the loss multiplies its clipped gradient"
        ),
        Choice("decay", {"kd.decay_factor": 0.6}, "the weight is halved at each milestone"),
        Choice(
            "milestones",
            {"teacher.train.milestones": [0.3, 0.6, 0.8], "student.train.milestones": [0.3, 0.6, 0.8]},
            "the learning rate falls at 30, 60 and 90 %",
        ),
        Choice("validation", {"data.search_validation": 46000}, "36,000 held-out images score a search"),
        Choice(
            "cutout",
            {"teacher.train.cutout": 8, "student.train.cutout": 8},
            "no Cutout behind the schedule",
            {"teacher.train.cutout": 16, "student.train.cutout": 16},
        ),
        Choice("losses", {"kd.variant": "release"}, "losses as their recommended variants"),
    )
}


@dataclass(frozen=True)
class Options:
    """What a `reproduce` directory is made with; the same for all of its work.

    Args:
        recipe: numbers of the trainings, a key of `RECIPES`.
        scale: factor of all epochs, in (0, 1].
        smoke: tiny settings, which show that everything runs and nothing else.
        release: names of `CHOICES` in which the released code is followed.
        changes: single settings, dotted keys.
        data_root: folder of the data sets; not part of what results depend on.
        pba_schedule: file of PBA's published schedule.
    """

    recipe: str = "paper"
    scale: float = 1.0
    smoke: bool = False
    release: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    data_root: str | None = None
    pba_schedule: str | None = None

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise InputError(unknown("recipe", self.recipe, RECIPES))
        if not 0 < self.scale <= 1:
            raise InputError(f"`scale` must be above 0 and at most 1, got {self.scale}.")
        if self.smoke and self.scale != 1:
            raise InputError("`--smoke` sets every length itself: leave `--scale` out.")
        for name in self.release:
            if name not in CHOICES:
                raise InputError(unknown("difference of the released code", name, CHOICES))

    @property
    def title(self) -> str:
        """What every output says of it: "smoke", "scale 0.1" or "full"."""
        if self.smoke:
            return "smoke"
        return "full" if self.scale == 1 else f"scale {self.scale:g}"

    def identity(self) -> Tree:
        """What results depend on; a directory holds work of one identity alone."""
        return {
            "recipe": self.recipe,
            "scale": self.scale,
            "smoke": self.smoke,
            "release": sorted(self.release),
            "changes": dict(sorted(self.changes.items())),
        }


def settings(setup: Setup, seed: int, options: Options, own: Tree | None = None) -> Config:
    """The ordinary settings of one training or search, files aside.

    Args:
        setup: the training.
        seed: base seed of every random stream.
        options: lengths and choices.
        own: numbers of this experiment instead of the recipe's, such as the study's.

    Raises:
        InputError: settings that cannot be; every fault is listed.
    """
    tree: Tree = {}
    merge(tree, RECIPES[options.recipe](setup) if own is None else own)
    if options.smoke:
        merge(tree, _SMOKE)
    merge(tree, _described(setup, seed))
    changes: Tree = {}
    for name in options.release:
        changes |= CHOICES[name].values(setup.data)
    changes |= {**options.changes, "data.root": options.data_root}
    return _scaled(changed(tree, changes), options.scale)


def _described(setup: Setup, seed: int) -> Tree:
    teacher: Tree = {"network": setup.network}
    if setup.data.startswith("cifar"):
        teacher["search_data"] = "cifar10"  # the paper transfers the teacher's schedule from there
    return {
        "preset": "experiment",
        "seed": seed,
        "baselines": False,
        "data": {"name": setup.data},
        "teacher": teacher,
        "student": {
            "network": setup.student,
            "weight_bits": setup.bits if setup.role == "student" else FULL,
            "act_bits": setup.bits if setup.role == "student" else FULL,
            "init": setup.start,
        },
        "kd": {"loss": setup.loss},
        # One thread: several give other bytes, and pieces of work run in parallel.
        "machine": {"threads": 1},
    }


def _scaled(config: Config, scale: float) -> Config:
    """Every length multiplied, at least one epoch; a search's interval stays, so that it has fewer rounds."""
    if scale == 1:
        return config

    def length(epochs: int) -> int:
        return max(1, round(scale * epochs))

    searching = length(config.search.epochs)
    values: Tree = {
        "search.epochs": searching,
        "search.interval": min(config.search.interval, searching),
        "kd.prepare_epochs": length(config.kd.prepare_epochs),
    }
    for role in ("teacher", "student"):
        train = config.role(role).train
        values[f"{role}.train.epochs"] = length(train.epochs)
        values[f"{role}.train.warmup_epochs"] = round(scale * train.warmup_epochs)
        values[f"{role}.train.ema_epochs"] = None if train.ema_epochs is None else length(train.ema_epochs)
    return with_settings(config, values)


def with_settings(config: Config, values: Mapping[str, Any]) -> Config:
    """The settings with some of them replaced, by dotted keys."""
    return changed(config.model_dump(), values)


def merge(tree: Tree, more: Mapping[str, Any]) -> None:
    """Puts a copy of `more` into `tree`, section by section."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            section = tree.get(key)
            tree[key] = section if isinstance(section, dict) else {}
            merge(tree[key], value)
        else:
            tree[key] = value
