"""What a user of a network needs in addition to its tensors: preparation of images, classes, origin."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rolewise.errors import InputError
from rolewise.runs.files import finite

CHANNELS = ("RGB", "L")
# What each entry of a file's description may be: a check, and the words for a message.
_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "preprocessing": (lambda value: isinstance(value, Mapping), "an object"),
    "classes": (
        lambda value: isinstance(value, list | tuple) and all(isinstance(one, str) for one in value),
        "a list of names",
    ),
    "data": (lambda value: isinstance(value, str), "a name"),
    "accuracy": (lambda value: type(value) in (int, float) and 0 <= value <= 1, "a fraction from 0 to 1"),
    "test_images": (lambda value: type(value) is int and value >= 0, "a number of images"),
    "made": (lambda value: isinstance(value, Mapping), "an object"),
}


@dataclass(frozen=True)
class Preprocessing:
    """From an image to the network's input: `(pixels / 255 - mean) / std`, channels first, float32.

    Args:
        mean: mean of each channel, of values in [0, 1].
        std: standard deviation of each channel, of values in [0, 1], > 0.
        size: height and width in pixels.
        channels: "RGB" or "L" (one gray channel).
        resize: side in pixels to which the central square of an image is scaled (bilinear), before the central part
            of `size` is taken; None: the greater side of `size`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    channels: str = "RGB"
    resize: int | None = None

    def __post_init__(self) -> None:
        count = 1 if self.channels == "L" else 3
        numbers = len(self.mean) == count and all(math.isfinite(one) for one in self.mean)
        deviations = len(self.std) == count and all(0 < one < math.inf for one in self.std)
        fits = self.resize is None or self.resize >= max(self.size)
        positive = len(self.size) == 2 and min(self.size) >= 1
        rules = (
            (
                self.channels in CHANNELS,
                f"`channels` must be one of {', '.join(CHANNELS)}, got {self.channels!r}",
            ),
            (fits, f"`resize` must be at least the greater side of `size`, got {self.resize}"),
            (numbers, f"`mean` must hold {count} numbers, got {self.mean}"),
            (deviations, f"`std` must hold {count} numbers above 0, got {self.std}"),
            (positive, f"`size` must be height and width, each at least 1, got {self.size}"),
        )
        if faults := [words for kept, words in rules if not kept]:
            raise InputError(f"{'; '.join(faults)}.")

    def to_json(self) -> dict[str, Any]:
        """As JSON; `from_json` is the inverse."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "size": list(self.size),
            "channels": self.channels,
            "resize": self.resize,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`.

        Raises:
            InputError: a missing or impossible entry.
        """
        try:
            return cls(
                mean=tuple(float(one) for one in value["mean"]),
                std=tuple(float(one) for one in value["std"]),
                size=(int(value["size"][0]), int(value["size"][1])),
                channels=str(value["channels"]),
                resize=None if value.get("resize") is None else int(value["resize"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"The file's preprocessing cannot be read: {error}.") from error


@dataclass(frozen=True)
class NetworkInfo:
    """What a saved or exported file says of a network's use and origin. Each entry may be unknown.

    Args:
        preprocessing: conversion of images to the network's input.
        classes: names of the classes, in the order of the logits.
        data: name of the data set.
        accuracy: share of right answers on the test set, 0 to 1, in float32.
        test_images: number of images behind `accuracy`.
        made: record of its training, JSON: `loss`, `teacher` (digest), `schedule` (name and digest), `epochs`, `seed`,
            ...
    """

    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()
    data: str | None = None
    accuracy: float | None = None
    test_images: int | None = None
    made: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What is known, as JSON."""
        found = {
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_json(),
            "classes": list(self.classes),
            "data": self.data,
            "accuracy": self.accuracy,
            "test_images": self.test_images,
            "made": dict(self.made),
        }
        return {key: value for key, value in finite(found).items() if value not in (None, [], {})}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "NetworkInfo":
        """The inverse of `to_json`.

        Raises:
            InputError: an entry of another type, or a preprocessing that cannot be.
        """
        wrong = [
            f"`{key}` must be {words}, got {value[key]!r}"
            for key, (fits, words) in _FORMS.items()
            if value.get(key) is not None and not fits(value[key])
        ]
        if wrong:
            raise InputError(f"{'; '.join(wrong)}.")
        steps = value.get("preprocessing")
        return cls(
            preprocessing=None if steps is None else Preprocessing.from_json(steps),
            classes=tuple(str(one) for one in value.get("classes") or ()),
            data=value.get("data"),
            accuracy=value.get("accuracy"),
            test_images=value.get("test_images"),
            made=value.get("made") or {},
        )

    def at_size(self, size: tuple[int, int]) -> "NetworkInfo":
        """For images of another size."""
        if self.preprocessing is None:
            return self
        steps = self.preprocessing
        scaled = None if steps.resize is None or steps.resize < max(size) else steps.resize
        return replace(self, preprocessing=replace(steps, size=size, resize=scaled))


def check_info(info: NetworkInfo | None, num_classes: int | None) -> dict[str, Any]:
    """`info` as JSON.

    Raises:
        InputError: another number of class names than the network has classes.
    """
    if info is None:
        return {}
    if info.classes and num_classes is not None and len(info.classes) != num_classes:
        raise InputError(f"`info` names {len(info.classes)} classes, but the network has {num_classes}.")
    return info.to_json()
