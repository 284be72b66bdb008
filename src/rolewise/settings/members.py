"""What the members of a search train with: the final training's recipe, changed for them."""

from collections.abc import Mapping
from typing import Any

from rolewise.settings.train import TrainRecipe

# Settings that say how the weights are averaged, which changes no training.
AVERAGES = ("ema_decay", "ema_epochs")
# Settings without a meaning of their own: each belongs to one of others.
GOES_WITH = {"mix_probability": ("mixup", "cutmix"), "ladder_shares": ("ladder",)}


def member_recipe(
    own: TrainRecipe, changes: Mapping[str, Any], *, epochs: int, batch_size: int | None
) -> TrainRecipe:
    """The recipe of a search's members. They are scored by their current weights, so none are averaged.

    Args:
        own: recipe of the final training.
        changes: settings in which members differ, `search.train`.
        epochs: length of the search.
        batch_size: batch of the members; None takes the final training's.

    Raises:
        InputError: settings that do not go together for so many epochs.
    """
    values = {**vars(own), **changes, **dict.fromkeys(AVERAGES)}
    for name, others in GOES_WITH.items():
        # With the setting that it goes with changed or switched off, the final training's value has no meaning.
        if name not in changes and any(one in changes for one in others):
            del values[name]
    return TrainRecipe(**{**values, "epochs": epochs, "batch_size": batch_size or own.batch_size})
