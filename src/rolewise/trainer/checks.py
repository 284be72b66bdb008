"""What a trainer checks before it starts."""

import torch
from torch import nn

from rolewise.augment import Schedule
from rolewise.data import Split
from rolewise.errors import InputError, InputTypeError
from rolewise.kd.trial import try_network
from rolewise.objective import Objective
from rolewise.trainer.parallel import Group
from rolewise.trainer.settings import TrainSettings


def check_shared(objective: Objective, settings: TrainSettings, group: Group) -> None:
    """Checks that several processes can share the batches of a training.

    Raises:
        InputError: they cannot.
    """
    if not objective.supports_ddp:
        raise InputError(
            f"{type(objective).__name__} averages no gradients, so several processes cannot share its "
            "batches: train it without torchrun."
        )
    if settings.compile:
        raise InputError("`compile` is for a single process: leave it out under torchrun.")
    if settings.mixing is not None and settings.batch_size // group.size % 2:
        raise InputError(
            f"`mixup` and `cutmix` mix images in pairs, and {settings.batch_size} images over {group.size} processes "
            f"are an odd number each: choose a multiple of {2 * group.size} as `batch_size`."
        )


def check_classes(model: nn.Module, split: Split, device: torch.device, *, role: str = "student") -> None:
    """Tries the network on one blank image of the data's form.

    Raises:
        InputError: it fails, gives no logits, or another number of classes than the data have.
    """
    blank = torch.zeros(1, split.channels, *split.image_size, device=device)
    try_network(model, blank, role=role, classes=split.num_classes)


def check_schedule(augment: Schedule | None, epochs: int) -> None:
    """Checks that there is exactly one policy per epoch."""
    if augment is None:
        return
    if not isinstance(augment, Schedule):
        raise InputTypeError(
            f"`augment` must be a Schedule or None, got {type(augment).__name__}. "
            "A policy for all epochs: Schedule.constant(policy, epochs)."
        )
    if len(augment) != epochs:
        raise InputError(
            f"`augment` holds {len(augment)} epochs, but the training has {epochs}: "
            f"augment.stretch({epochs}) makes it fit."
        )
