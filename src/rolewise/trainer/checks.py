"""What a trainer checks before it starts."""

import torch
from torch import nn

from rolewise.data import Split
from rolewise.errors import InputError
from rolewise.objective import Objective
from rolewise.trainer.parallel import Group
from rolewise.trainer.settings import TrainSettings


def check_shared(objective: Objective, settings: TrainSettings, group: Group) -> None:
    """Checks that several processes can share the batches of a training.

    Raises:
        InputError: they cannot.
    """
    if not objective.shares_batches:
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


def check_classes(model: nn.Module, split: Split, device: torch.device) -> None:
    """Checks that the network tells as many classes apart as the data have.

    Raises:
        InputError: it does not.
    """
    height, width = split.image_size
    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = model(torch.zeros(1, 3, height, width, device=device)).shape
    model.train(was_training)
    if len(found) != 2 or found[1] != split.num_classes:
        raise InputError(
            f"The network {type(model).__name__} gives outputs of shape {tuple(found)}, but the data have "
            f"{split.num_classes} classes: build it with num_classes={split.num_classes}."
        )
