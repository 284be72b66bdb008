"""The decisions against the published rules: exact probabilities, counts, order, and what is refused."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolewise.errors import InputError, InputTypeError
from rolewise.population import Move, boundaries, exploit, explore

DRAWS = 20_000
vectors = st.lists(st.integers(0, 9), min_size=60, max_size=60)
scores_of = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.5, 0.25, float("nan"), -math.inf])), min_size=4, max_size=64
)


def law(value: int, high: int, resample: Fraction = Fraction(1, 5)) -> list[Fraction]:
    """The distribution of one entry after exploring, straight from the rule."""
    found = [resample / (high + 1)] * (high + 1)
    for step in range(4):
        for moved in (max(0, value - step), min(high, value + step)):
            found[moved] += (1 - resample) / 8
    assert sum(found) == 1
    return found


def chi_square(counts: list[int], expected: list[float]) -> float:
    return sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))


@pytest.mark.parametrize("value", [0, 1, 2, 3, 5, 8, 9])
def test_explore_follows_the_published_distribution(value):
    rng = np.random.default_rng(value)
    drawn = np.array([explore([value] * 60, rng) for _ in range(DRAWS // 30)])
    for parity, high in ((0, 10), (1, 9)):
        entries = drawn[:, parity::2].ravel()
        counts = np.bincount(entries, minlength=high + 1).tolist()
        expected = [float(p) * len(entries) for p in law(value, high)]
        # 99.99 % quantile of chi-square with 10 degrees of freedom: 35.6
        assert len(counts) == high + 1
        assert chi_square(counts, expected) < 35.6


def test_the_law_gives_the_published_numbers():
    # method facts 19 and 20
    assert float(law(0, 10)[0]) == pytest.approx(0.5182, abs=5e-5)
    assert float(law(0, 9)[0]) == pytest.approx(0.52, abs=1e-12)
    assert float(law(5, 10)[5]) == pytest.approx(0.2182, abs=5e-5)
    assert float(law(5, 9)[5]) == pytest.approx(0.22, abs=1e-12)


def test_entries_are_explored_independently():
    rng = np.random.default_rng(1)
    drawn = np.array([explore([5] * 60, rng) for _ in range(4000)], float)
    correlation = np.corrcoef(drawn.T) - np.eye(60)
    assert np.abs(correlation).max() < 5 / math.sqrt(4000)  # five standard deviations, over 1,770 pairs


def test_a_change_of_more_than_three_needs_a_new_draw():
    rng = np.random.default_rng(2)
    for _ in range(200):
        assert np.abs(np.array(explore([5] * 60, rng, resample=0)) - 5).max() <= 3
    far = np.array([np.abs(np.array(explore([5] * 60, rng, resample=1)) - 5).max() for _ in range(50)])
    assert (far > 3).all()


def test_resampling_alone_is_uniform():
    rng = np.random.default_rng(3)
    drawn = np.array([explore([9] * 60, rng, resample=1) for _ in range(1000)])
    for parity, high in ((0, 10), (1, 9)):
        entries = drawn[:, parity::2].ravel()
        mean = len(entries) / (high + 1)
        assert chi_square(np.bincount(entries, minlength=high + 1).tolist(), [mean] * (high + 1)) < 35.6


@given(vectors, st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_explored_vectors_are_vectors(vector, seed, resample):
    before = list(vector)
    found = explore(vector, np.random.default_rng(seed), resample=resample)
    assert vector == before
    assert len(found) == 60
    assert all(type(entry) is int for entry in found)
    assert all(0 <= entry <= (9 if index % 2 else 10) for index, entry in enumerate(found))
    assert found == explore(np.array(vector), np.random.default_rng(seed), resample=resample)


@given(scores_of, st.integers(0, 2**32 - 1), st.floats(0.01, 0.5))
@settings(max_examples=200, deadline=None)
def test_moves_copy_the_best_over_the_worst(scores, seed, quantile):
    moves = exploit(scores, np.random.default_rng(seed), quantile=quantile)
    n = min(max(1, math.ceil(quantile * len(scores))), len(scores) // 2)
    # the ranking by an independent route: a stable sort by score, minus infinity for NaN
    plain = [-math.inf if score != score else score for score in scores]
    order = sorted(range(len(scores)), key=lambda member: plain[member], reverse=True)
    assert order == sorted(order, key=lambda member: (-plain[member], member))
    assert [move.target for move in moves] == sorted(order[-n:])
    assert {move.source for move in moves} <= set(order[:n])
    if any(score > -math.inf for score in plain):
        assert all(plain[move.source] > -math.inf for move in moves)


def test_sixteen_members_lose_four_and_copy_four():
    # method fact 22
    scores = [0.01 * member for member in range(16)]
    moves = exploit(scores, np.random.default_rng(0))
    assert [move.target for move in moves] == [0, 1, 2, 3]
    assert {move.source for move in moves} <= {12, 13, 14, 15}
    assert all(isinstance(move, Move) for move in moves)
    assert moves[0] == (moves[0].target, moves[0].source)


def test_sources_are_drawn_uniformly():
    counts = dict.fromkeys(range(12, 16), 0)
    rng = np.random.default_rng(5)
    for _ in range(2000):
        for move in exploit([0.01 * member for member in range(16)], rng):
            counts[move.source] += 1
    assert chi_square(list(counts.values()), [2000.0] * 4) < 21.1  # 99.99 % with 3 degrees of freedom


def test_equal_scores_rank_the_lower_id_higher_whatever_the_seed():
    for seed in range(20):
        moves = exploit([0.5] * 8, np.random.default_rng(seed))
        assert [move.target for move in moves] == [6, 7]
        assert {move.source for move in moves} <= {0, 1}


def test_nan_is_the_worst_score():
    moves = exploit([0.1, float("nan"), 0.3, 0.2], np.random.default_rng(0))
    assert moves == [Move(1, 2)]


@pytest.mark.parametrize(
    ("population", "quantile", "expected"),
    [
        (4, 0.25, 1),
        (5, 0.25, 2),
        (8, 0.25, 2),
        (16, 0.25, 4),
        (64, 0.25, 16),
        (4, 0.01, 1),
        (5, 0.5, 2),
        (7, 0.5, 3),
    ],
)
def test_number_of_moves(population, quantile, expected):
    rng = np.random.default_rng(0)
    assert len(exploit(list(range(population)), rng, quantile=quantile)) == expected


def test_boundaries_are_sixty_six_and_the_end():
    # method fact 23: 66 rounds, the last at epoch 198; no exploit at the end
    found = boundaries(200, 3)
    assert len(found) == 67
    assert found[:2] == [3, 6]
    assert found[-2:] == [198, 200]
    assert boundaries(6, 3) == [3, 6]
    assert boundaries(5, 5) == [5]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: explore([0] * 59, np.random.default_rng(0)),
            r"`vector` must hold 60 integers, got shape \(59,\)",
        ),
        (lambda: explore([0.5] * 60, np.random.default_rng(0)), "60 integers, got entries of type float64"),
        (
            lambda: explore([11, *[0] * 59], np.random.default_rng(0)),
            r"`vector\[0\]` \(probability\) .* 0 to 10, got 11",
        ),
        (
            lambda: explore([0, 10, *[0] * 58], np.random.default_rng(0)),
            r"`vector\[1\]` \(magnitude\) .* 0 to 9, got 10",
        ),
        (lambda: explore([-1, *[0] * 59], np.random.default_rng(0)), "got -1"),
        (
            lambda: explore([0] * 60, np.random.default_rng(0), resample=1.5),
            "`resample` must be a number from 0 to 1, got 1.5",
        ),
        (lambda: explore([0] * 60, np.random.default_rng(0), resample=math.nan), "`resample`.*got nan"),
        (
            lambda: exploit([0.1, 0.2, 0.3], np.random.default_rng(0)),
            "`population` must be an integer from 4 to 64, got 3",
        ),
        (lambda: exploit([0.1] * 65, np.random.default_rng(0)), "got 65"),
        (
            lambda: exploit([0.1] * 8, np.random.default_rng(0), quantile=0),
            "`quantile` must be .* at most 0.5, got 0",
        ),
        (lambda: exploit([0.1] * 8, np.random.default_rng(0), quantile=0.6), "`quantile`.*got 0.6"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_a_wrong_type_is_a_type_error_too():
    with pytest.raises(InputTypeError):
        explore(["a"] * 60, np.random.default_rng(0))
