"""Unequal classes: weights of their losses, and a network's accuracy on each."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rolewise.data import Split
from rolewise.errors import InputError


def class_weights(
    given: Literal["balanced"] | Sequence[float] | None, split: Split, device: torch.device
) -> Tensor | None:
    """Factors of the classes' task losses.

    Args:
        given: "balanced" is n / (k * images of the class) over the k classes that occur, so that each class has the
            same weight in the loss and the mean over the images is 1 (King and Zeng, "Logistic regression in rare
            events data", 2001; scikit-learn's `class_weight`); numbers by label; None for none.
        split: the training images.
        device: device of the result.

    Raises:
        InputError: not one number for each class.
    """
    if given is None:
        return None
    if given == "balanced":
        counts = torch.tensor(split.counts(), dtype=torch.float64)
        present = counts > 0
        weights = torch.where(present, len(split) / (present.sum() * counts.clamp_min(1)), 0.0)
    else:
        weights = torch.tensor(list(given), dtype=torch.float64)
        if len(weights) != split.num_classes:
            raise InputError(
                f"`class_weights` must be one number for each of the {split.num_classes} classes, got {len(weights)}."
            )
    return weights.float().to(device)


def confusion_matrix(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Int64[Tensor, "k k"]:
    """Number of images of the row's class that were classified as the column's class."""
    k = logits.shape[1]
    places = labels.cpu() * k + logits.argmax(1).cpu()
    return torch.bincount(places, minlength=k * k).reshape(k, k)


def per_class_accuracy(confusion: Int64[Tensor, "k k"]) -> list[float | None]:
    """The share of each class's images that was recognized; None for a class without images."""
    found = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), strict=True)
    return [right / n if n else None for right, n in found]
