"""A schedule as a transform of torchvision's v2 pipelines. Needs torchvision; importing this module imports it."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from rolewise.augment import BasePolicy, Schedule
from rolewise.augment.kernels import CUTOUT_COLOR
from rolewise.augment.transform import ScheduleTransform as _Transform
from rolewise.errors import missing_extra

try:
    from torchvision import tv_tensors
    from torchvision.transforms import v2
except (ImportError, RuntimeError, OSError) as error:
    # With a CPU build of torch, torchvision fails with a RuntimeError.
    raise missing_extra("rolewise.interop.torchvision", "torchvision", "vision", error) from error


def _plain(value: object) -> bool:
    """A tensor that is no image, mask or box by type: v2 takes the first of a sample for the image."""
    return type(value) is torch.Tensor


class ScheduleTransform(v2.Transform):  # type: ignore[misc, unused-ignore]
    """A schedule as a `torchvision.transforms.v2` transform; call `set_epoch` before each epoch.

    It takes uint8 images (PIL, `tv_tensors.Image`, plain tensors) and goes before `ToDtype` and `Normalize`. All images
    of one sample get the same ops; masks, boxes and labels pass through unchanged, so it is meant for classification.

    Args:
        schedule: schedule, or a single policy for all epochs.
        fill: red, green, blue of exposed pixels, 0 to 255.
    """

    _transformed_types = (Image.Image, tv_tensors.Image, _plain)

    def __init__(self, schedule: Schedule | BasePolicy, *, fill: Sequence[int] = CUTOUT_COLOR) -> None:
        super().__init__()
        self._schedule = _Transform(schedule, fill=fill)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the policy of `epoch`; workers of a data loader, including persistent ones, see it."""
        self._schedule.set_epoch(epoch)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """One seed for all images of a sample, from Python's `random`, which data loaders seed in each worker."""
        return {"seed": random.getrandbits(62)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """One image of the sample."""
        images = inpt.as_subclass(torch.Tensor) if isinstance(inpt, torch.Tensor) else inpt
        inner = self._schedule
        result = inner.policy(images, seed=params["seed"], epoch=inner.epoch, fill=inner.fill)
        return tv_tensors.wrap(result, like=inpt) if isinstance(inpt, tv_tensors.Image) else result

    def extra_repr(self) -> str:
        """The schedule and the current epoch."""
        return f"{self._schedule.schedule!r}, epoch={self._schedule.epoch}"
