"""A trial forward pass of a user's network, which reports any fault before work starts."""

import inspect
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.kd.base import Outputs, collect
from rolewise.own_code import where


def try_network(
    model: nn.Module,
    images: Tensor,
    taps: Sequence[str] = (),
    *,
    role: str = "student",
    classes: int | None = None,
) -> Outputs:
    """One forward pass in evaluation mode, without gradients; the network's mode is as before afterwards.

    Args:
        model: the network.
        images: a small batch `(n, c, h, w)` on its device.
        taps: names of the layers whose outputs are wanted.
        role: role of the network, for messages.
        classes: required number of logits; None: any number.
    Raises:
        InputError: the network fails on such images (with file and line of its own code), or gives something other
            than one tensor of logits (n, classes).
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            outputs = collect(model, images, taps, role)
    except InputError:
        raise
    except Exception as error:
        raise InputError(_failure(model, images, role, error)) from error
    finally:
        for module, mode in modes:
            module.training = mode
    shape = tuple(outputs.logits.shape)
    if len(shape) != 2 or shape[0] != len(images):
        raise InputError(
            f"The {role} network {type(model).__name__} gives outputs of shape {shape} for {len(images)} images of "
            f"shape {tuple(images.shape[1:])}: it must return one row of logits for each image, (n, classes)."
        )
    if classes is not None and shape[1] != classes:
        raise InputError(
            f"The {role} network {type(model).__name__} gives outputs of shape {shape}, but the data have {classes} "
            f"classes: build it with num_classes={classes}."
        )
    return outputs


def _failure(model: nn.Module, images: Tensor, role: str, error: Exception) -> str:
    """What failed, where in the network's own file, and what the first layer expects."""
    words = " ".join(str(error).split())[:300]
    text = f"The {role} network {type(model).__name__} fails on images of shape {tuple(images.shape)}"
    try:
        file = Path(inspect.getfile(type(model))).resolve()
        place = where(file, error)
    except (TypeError, OSError):
        place = None
    text += f" ({file}, {place})" if place else ""
    text += f": {type(error).__name__}: {words}"
    channels = int(images.shape[1])
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels != channels:
        kind = {1: "gray", 3: "RGB"}
        text = text.removesuffix(".") + (
            f". Its first convolution takes {first.in_channels} channels and the images are "
            f"{kind.get(channels, 'others')} ({channels}): build the network for {channels}, or bring the images to "
            f"{first.in_channels} (Data.from_dataset and folders: `channels`)."
        )
    return text
