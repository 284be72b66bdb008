"""All that the result of a training depends on, as JSON: an interrupted one resumes only if it is the same."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from rolewise.augment import Schedule
from rolewise.data import Data
from rolewise.errors import InputError
from rolewise.objective import Objective
from rolewise.pretrained import digest
from rolewise.quant import quantization
from rolewise.runs import to_json
from rolewise.settings import TrainRecipe, field_names
from rolewise.trainer.settings import TrainSettings

_SHOWN = 5  # differences that an error lists
# What a training's checkpoint replaces, as it does the network's weights: those of a loss that was used before differ.
_REPLACED = ("objective.loss.weights",)


def training_identity(
    model: nn.Module,
    data: Data,
    objective: Objective,
    schedule: Schedule | None,
    settings: TrainSettings,
    *,
    seed: int,
    role: str,
) -> dict[str, Any]:
    """Identity of a training, without the device and the initial weights.

    The weights are in its checkpoint; those of the network that is passed to a resume are replaced.
    """
    return {
        "settings": {name: getattr(settings, name) for name in field_names(TrainRecipe)},
        "seed": seed,
        "role": role,
        "data": {"name": data.name, "fingerprint": data.fingerprint()},
        "schedule": None
        if schedule is None
        else [[epochs, one.to_json()] for epochs, one in schedule.segments],
        "network": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "quantization": quantization(model),
        "objective": describe_objective(objective),
    }


def describe_objective(objective: Objective) -> dict[str, Any]:
    """An objective as JSON: its numbers, and digests of its networks; without what a trainer has set in it."""
    about: dict[str, Any] = {"class": type(objective).__name__}
    for name, value in vars(objective).items():
        if name.startswith("_") or name in objective.set_by_trainer:
            continue
        if isinstance(value, nn.Module):
            about[name] = {"class": type(value).__name__, "weights": digest(value)}
        elif value is None or isinstance(value, bool | int | float | str):
            about[name] = value
    return about


def check_identity(
    saved: Mapping[str, Any], now: Mapping[str, Any], where: object, *, what: str = "training"
) -> None:
    """Checks that a training or a search resumes with the identity with which it began.

    Args:
        saved: identity in the checkpoint or the run.
        now: requested identity.
        where: run directory, for the message.
        what: "training" or "search".

    Raises:
        InputError: something differs; the message names up to five differences.
    """
    before, after = _flat(saved), _flat(now)
    replaced = _REPLACED if what == "training" else ()
    differing = [
        f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in {**before, **after}
        if name not in replaced and to_json(before.get(name)) != to_json(after.get(name))
    ]
    if differing:
        raise InputError(
            f"The {what} in {where} was begun with other settings: {'; '.join(differing[:_SHOWN])}. Resume it with "
            "those, or begin in another directory."
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found
