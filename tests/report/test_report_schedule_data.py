"""The numbers of figure 3, against loops over the vectors themselves."""

import json
from pathlib import Path

import numpy as np
import pytest

from rolewise.augment import Policy, RandAugment, Schedule
from rolewise.errors import InputError
from rolewise.report.schedule_data import schedule_data

# The published order of the ops (method of the role-wise paper): slot k of a vector holds op k mod 15.
ORDER = [
    *("Rotate", "TranslateX", "TranslateY", "Brightness", "Color", "Invert", "Sharpness", "Posterize"),
    *("ShearX", "Solarize", "ShearY", "Equalize", "AutoContrast", "Cutout", "Contrast"),
]


def by_loops(vectors: list[list[int]]) -> tuple[list[list[float]], list[list[float]], float]:
    """Per op in alphabetical order and per epoch: normalized probability and magnitude; and the largest sum."""
    probability = [[0.0] * len(vectors) for _ in ORDER]
    magnitude = [[0.0] * len(vectors) for _ in ORDER]
    for row, name in enumerate(sorted(ORDER)):
        slot = ORDER.index(name)
        for epoch, vector in enumerate(vectors):
            probability[row][epoch] = (vector[2 * slot] / 10 + vector[2 * (slot + 15)] / 10) / 2
            magnitude[row][epoch] = (vector[2 * slot + 1] + vector[2 * (slot + 15) + 1]) / 2
    largest = max(sum(row[epoch] for row in probability) for epoch in range(len(vectors)))
    return [[value / largest for value in row] for row in probability], magnitude, largest


def test_the_published_two_bit_schedule(shared: Path) -> None:
    path = shared / "schedules" / "role-kd_pbt_policy_0.txt"
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    # Lines 6 to 9 are the lineage; the first segment has line 6's old policy. Lengths as published.
    used = [lines[6][4]["hp_policy"], *(line[5]["hp_policy"] for line in lines[6:10])]
    lengths = [57, 3, 72, 39, 29]
    vectors = [vector for vector, length in zip(used, lengths, strict=True) for _ in range(length)]
    found = schedule_data(Schedule.load(path, epochs=200))
    probability, magnitude, largest = by_loops(vectors)
    assert found.ops == tuple(sorted(ORDER))
    assert found.epochs == 200
    np.testing.assert_allclose(found.probability, probability, rtol=1e-12)
    np.testing.assert_array_equal(found.magnitude, magnitude)
    assert found.largest == pytest.approx(largest, rel=1e-12)
    assert found.probability.sum(axis=0).max() == pytest.approx(1, rel=1e-12)
    assert found.first == 57  # no augmentation before
    assert [past - first for first, past in found.steps()] == lengths
    assert found.bars == tuple(range(0, 200, 10))


@pytest.mark.parametrize("seed", range(3))
def test_random_schedules(seed: int) -> None:
    schedule = Schedule.random(23, seed, interval=3)
    probability, magnitude, largest = by_loops([policy.to_vector() for policy in schedule])
    found = schedule_data(schedule)
    np.testing.assert_allclose(found.probability, probability, rtol=1e-12)
    np.testing.assert_array_equal(found.magnitude, magnitude)
    assert found.largest == pytest.approx(largest, rel=1e-12)


@pytest.mark.parametrize(
    ("epochs", "bars"),
    [
        (200, list(range(0, 200, 10))),
        (20, list(range(20))),
        (21, list(range(0, 21, 2))),
        (10, list(range(10))),
        (1, [0]),
        (1800, list(range(0, 1800, 90))),
    ],
)
def test_at_most_twenty_bars_from_epoch_0_on(epochs: int, bars: list[int]) -> None:
    assert list(schedule_data(Schedule.none(epochs)).bars) == bars
    assert len(bars) <= 20


def test_no_augmentation_is_drawn_as_nothing() -> None:
    found = schedule_data(Schedule.none(5))
    assert not found.probability.any()
    assert not found.magnitude.any()
    assert found.largest == 0
    assert found.first is None
    assert found.steps() == [(0, 5)]


def test_any_number_of_copies() -> None:
    one = Policy([("Rotate", 4, 3), ("Invert", 10, 0), ("Rotate", 8, 9), ("Rotate", 0, 0)])
    two = Policy([("Color", 5, 5)])
    found = schedule_data(Schedule([(1, one), (2, two)]))
    assert found.ops == ("Color", "Invert", "Rotate")
    np.testing.assert_allclose(found.probability * 1.4, [[0, 0.5, 0.5], [1, 0, 0], [0.4, 0, 0]])
    np.testing.assert_allclose(found.magnitude, [[0, 5, 5], [0, 0, 0], [4, 0, 0]])


def test_policies_without_probabilities_are_refused() -> None:
    schedule = Schedule([(1, Policy.none()), (1, RandAugment())])
    with pytest.raises(
        InputError, match=r"segment 1 of the schedule is RandAugment, which has no probability"
    ):
        schedule_data(schedule)
