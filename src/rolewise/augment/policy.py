"""A policy: how the images of one epoch are augmented."""

import random
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from rolewise.augment import kernels
from rolewise.augment.images import ImageBatch, check_ids, check_number, image_batch
from rolewise.augment.kernel_types import Program
from rolewise.augment.ops import LEVELS, OPS, PUBLISHED, Op, make_program
from rolewise.augment.rng import stream_keys
from rolewise.augment.run_kernel import output, run_kernel
from rolewise.errors import InputError, InputTypeError, check_integer, unknown

COPIES = 2  # every op of the published space has two slots
TENTHS = 10
Setting = tuple[str, int, int]


class Applied(NamedTuple):
    """One op as it was applied to one image.

    Fields: `op` its name; `strength` its value with its sign, in the op's unit, None where it has none;
    `center` (x, y) in pixels for Cutout, None otherwise.
    """

    op: str
    strength: float | None
    center: tuple[int, int] | None

    def __str__(self) -> str:
        strength = "" if self.strength is None else f" {self.strength:.3g}"
        return f"{self.op}{strength}"


class BasePolicy(ABC):
    """Base class of policies. A subclass defines the slots and how they are chosen."""

    kind: ClassVar[str]

    @abstractmethod
    def slots(self, height: int, width: int) -> list[tuple[Op, float]]:
        """(op, strength without sign) of every slot that can fire, for images of this size."""

    @abstractmethod
    def choice(self) -> tuple[int, int, Sequence[int]]:
        """How slots are chosen: mode, ops per image, probabilities in tenths (see `Program`)."""

    @abstractmethod
    def expected_ops(self) -> float:
        """How many ops an image gets on average."""

    @abstractmethod
    def to_vector(self) -> list[int]:
        """The policy's place in the published space, 60 integers."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The policy as JSON: `kind` and its settings."""

    def apply(
        self, images: Any, *, seed: SupportsIndex, epoch: SupportsIndex, ids: Any = None, threads: int = 1
    ) -> tuple[Any, Any]:
        """Augmented images, and which of their pixels are exposed.

        Args:
            images: uint8 `(n, h, w, 3)` or `(n, 3, h, w)`, or one image without n; NumPy or torch. A shape
                that fits both layouts is read as `(n, h, w, 3)`. Not changed. Gray images have 1 channel: the
                ops see them as RGB with equal channels, the result is converted back to gray as Pillow does.
            seed, epoch, ids: the key of the random numbers; ids are n integers (the images' positions in the
                data set), so that an image gets the same ops in whatever batch it comes. None counts from 0.
            threads: number of threads over which the images are spread; does not change a byte.

        Returns:
            Images like those that came, and a bool array `(n, h, w)` (for one image `(h, w)`) of the pixels whose
            alpha is 0: no image content was there.

        Raises:
            InputTypeError: images that are not uint8 arrays or tensors; seed, epoch or ids that are not
                integers.
            InputError: another shape.
        """
        given = image_batch(images)
        exposed = np.empty((given.n, given.height * given.width), np.bool_)
        out = self._run(given, seed, epoch, ids, threads, exposed=exposed)
        mask = exposed.reshape(given.n, given.height, given.width)
        mask = mask if len(given.shape) == 4 else mask[0]
        return out, torch.from_numpy(mask) if given.kind is Tensor else mask

    def __call__(
        self,
        images: Any,
        *,
        seed: SupportsIndex | None = None,
        epoch: SupportsIndex | None = None,
        ids: Any = None,
        fill: Sequence[int] = kernels.CUTOUT_COLOR,
        threads: int = 1,
    ) -> Any:
        """The augmented images alone; also for one PIL image, and without any key.

        Args:
            images: images as in `apply`, or one PIL image of mode RGB or L (the result is RGB).
            seed: base seed; None draws one from Python's `random`, which data loaders seed in their workers.
            epoch: 0-based epoch; None counts as 0.
            ids: ids as in `apply`.
            fill: red, green, blue of exposed pixels, 0 to 255; choose the data set's mean.
        """
        seed = random.getrandbits(62) if seed is None else seed
        epoch = 0 if epoch is None else epoch
        color = _check_fill(fill)
        pillow = sys.modules.get("PIL.Image")  # whoever has a PIL image has loaded it
        if pillow is not None and isinstance(images, pillow.Image):
            if images.mode not in ("RGB", "L"):
                raise InputError(
                    f'`images` must be a PIL image of mode RGB or L, got {images.mode}: .convert("RGB").'
                )
            pixels = np.array(images.convert("RGB"))
            return pillow.fromarray(self._run(image_batch(pixels), seed, epoch, ids, threads, fill=color))
        return self._run(image_batch(images), seed, epoch, ids, threads, fill=color)

    def trace(
        self, ids: Any, *, seed: SupportsIndex, epoch: SupportsIndex, size: tuple[int, int] = (32, 32)
    ) -> list[tuple[Applied, ...]]:
        """Which ops `apply` uses on the images `ids` of `size` (height, width), in order, without images."""
        blank = np.zeros((len(ids), *size, 3), np.uint8)
        given = image_batch(blank)
        slots = self.slots(given.height, given.width)
        chosen = np.empty((given.n, self.choice()[1], 4), np.int64)
        self._run(given, seed, epoch, ids, 1, trace=chosen)
        return [tuple(_applied(slots, row) for row in rows if row[0] >= 0) for rows in chosen.tolist()]

    def _run(self, given: ImageBatch, seed: Any, epoch: Any, ids: Any, threads: int, **wanted: Any) -> Any:
        pixels = np.empty_like(given.flat)
        out = output(pixels=pixels, interleaved=given.interleaved, channels=given.channels, **wanted)
        keys = stream_keys(check_number("seed", seed), check_number("epoch", epoch))
        program = program_for(self, given.height, given.width)
        run_kernel(given, out, ids=check_ids(ids, given.n), keys=keys, program=program, threads=threads)
        return given.like(pixels)


@lru_cache(maxsize=64)
def program_for(policy: BasePolicy, height: int, width: int) -> Program:
    """The policy as the kernel reads it, for images of one size."""
    mode, amount, chance = policy.choice()
    return make_program(policy.slots(height, width), height, width, mode=mode, amount=amount, chance=chance)


def _applied(slots: list[tuple[Op, float]], row: list[int]) -> Applied:
    op, strength = slots[row[0]]
    signed = -strength if op.signed and row[1] else strength
    return Applied(
        op.name, None if op.strengths is None else signed, (row[2], row[3]) if row[2] >= 0 else None
    )


def _check_fill(fill: Sequence[int]) -> tuple[int, ...]:
    if len(fill) != 3:
        raise InputError(f"`fill` must be three values from 0 to 255, got {fill!r}.")
    return tuple(check_integer("fill", value, 0, 255) for value in fill)


@dataclass(frozen=True, init=False)
class Policy(BasePolicy):
    """A PBA policy: slots of (op, probability, magnitude), of which at most two fire on an image.

    Per image: a budget of 0, 1 or 2 ops (probability 0.2, 0.3, 0.5); the slots are shuffled and walked
    through, each applies its op with its probability, until the budget is used up or all slots are walked.

    Source: Ho et al., "Population Based Augmentation", ICML 2019.

    Args:
        settings: (op name, probability in tenths 0..10, magnitude 0..9), any number of them. The order has
            no effect (slots are shuffled); they are kept as first slots of all ops in the order of `OPS`, then
            second ones, and so on.

    Raises:
        InputError: all faults of the settings at once.
    """

    settings: tuple[Setting, ...]
    kind: ClassVar[str] = "pba"

    def __init__(self, settings: Iterable[Sequence[Any]]) -> None:
        kept = [_check_setting(number, setting) for number, setting in enumerate(settings)]
        faults = [fault for fault in kept if isinstance(fault, str)]
        if faults:
            raise InputError("\n".join(faults))
        seen: Counter[str] = Counter()
        ranks = {name: rank for rank, name in enumerate(OPS)}
        keyed = []
        for setting in kept:
            name = setting[0]
            keyed.append((seen[name], ranks[name], setting))
            seen[name] += 1
        object.__setattr__(
            self, "settings", tuple(setting for *_, setting in sorted(keyed, key=lambda k: k[:2]))
        )

    @classmethod
    def none(cls) -> "Policy":
        """No augmentation: the published 30 slots, all zero."""
        return cls.from_vector([0] * (2 * COPIES * len(PUBLISHED)))

    @classmethod
    def from_vector(cls, vector: Any) -> "Policy":
        """From 60 integers: probability and magnitude of slot k at 2k and 2k + 1; slot k holds op k mod 15.

        Raises:
            InputTypeError: entries that are not integers.
            InputError: another length, or entries out of range.
        """
        return cls(slots_of(vector, PUBLISHED))

    def to_vector(self) -> list[int]:
        """The 60 integers of the published order.

        Raises:
            InputError: the slots are not twice each of the published 15 ops.
        """
        if [setting[0] for setting in self.settings] != [*PUBLISHED] * COPIES:
            raise InputError(
                f"Only a policy with {COPIES} slots for each of the 15 published ops has a vector; "
                f"this one has {len(self.settings)} slots. Its `settings` hold all of it."
            )
        return [number for setting in self.settings for number in setting[1:]]

    @property
    def live(self) -> list[Setting]:
        """The settings that can fire. The others are not walked through, which changes no distribution."""
        return [setting for setting in self.settings if setting[1] > 0]

    def slots(self, height: int, width: int) -> list[tuple[Op, float]]:
        return [(OPS[name], OPS[name].strength(magnitude)) for name, _, magnitude in self.live]

    def choice(self) -> tuple[int, int, Sequence[int]]:
        return kernels.WALK, 2, [probability for _, probability, _ in self.live]

    def expected_ops(self) -> float:
        # The budget is at least 1 with probability 0.8 and 2 with 0.5, and a slot fires with its probability while the
        # budget lasts; all slots are independent.
        none, one = 1.0, 0.0
        for _, tenths, _ in self.settings:
            none, one = none * (1 - tenths / 10), one * (1 - tenths / 10) + none * tenths / 10
        return 0.8 * (1 - none) + 0.5 * (1 - none - one)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "settings": [list(setting) for setting in self.settings]}


def slots_of(vector: Any, names: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """A bare vector as settings, not yet checked; slot k holds op `names[k mod len(names)]`, two for each name.

    Raises:
        InputTypeError: entries that are not integers.
        InputError: not 4 entries per name.
    """
    values = vector.tolist() if isinstance(vector, np.ndarray | Tensor) else vector
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InputTypeError(f"`vector` must be a sequence of integers, got {type(vector).__name__}.")
    length = 2 * COPIES * len(names)
    if len(values) != length:
        raise InputError(
            f"`vector` must hold {length} integers ({len(names)} ops, {COPIES} slots each, probability and "
            f"magnitude), got {len(values)}."
        )
    return [(names[k % len(names)], values[2 * k], values[2 * k + 1]) for k in range(length // 2)]


def _check_setting(number: int, setting: Any) -> Setting | str:
    """The setting, or what is wrong with it."""
    if isinstance(setting, str) or not isinstance(setting, Sequence) or len(setting) != 3:
        raise InputTypeError(f"`settings[{number}]` must be (op, probability, magnitude), got {setting!r}.")
    name, probability, magnitude = setting
    if name not in OPS:
        return unknown("op", name, OPS)
    faults = []
    for what, value, high in (("probability", probability, TENTHS), ("magnitude", magnitude, LEVELS - 1)):
        try:
            check_integer(what, value, 0, high)
        except InputTypeError as error:
            raise InputTypeError(f'{str(error)[:-1]} (op "{name}", slot {number}).') from None
        except InputError as error:
            faults.append(f'{str(error)[:-1]} (op "{name}", slot {number}).')
    return " ".join(faults) if faults else (name, int(probability), int(magnitude))
