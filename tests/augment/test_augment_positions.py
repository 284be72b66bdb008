"""Items of an `AugmentedDataset` by positions counted from the end, and data sets that give images alone."""

import numpy as np
import pytest

from rolewise.augment import AugmentedDataset, Schedule, ScheduleTransform
from rolewise.errors import InputTypeError


def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))


def test_a_position_counted_from_the_end_is_that_position():
    data = AugmentedDataset([(one, 0) for one in pictures()], ScheduleTransform(Schedule.random(1, seed=0)))
    for position in range(4):
        assert np.array_equal(data[position - 4][0], data[position][0])


def test_images_alone_are_refused_with_the_way_out():
    data = AugmentedDataset(pictures(), ScheduleTransform(Schedule.random(1, seed=0)))
    with pytest.raises(InputTypeError, match=r"item 1 is a ndarray: give \(image,\) where there is no label"):
        data[1]
