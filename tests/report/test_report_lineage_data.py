"""The numbers of a search's picture: ranks, copies, the best member's history."""

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import Search

from rolewise.errors import InputError
from rolewise.report.lineage_data import LEVELS, Stretch, lineage_data
from rolewise.report.load import load


def scored(epoch: int, *accuracies: float | None) -> list[dict[str, Any]]:
    about = {"role": "teacher", "split": "validation", "epoch": epoch}
    return [{**about, "member": member, "accuracy": value} for member, value in enumerate(accuracies)]


def exploit(epoch: int, target: int, source: int) -> dict[str, Any]:
    scores = {"target_score": 0.1, "source_score": 0.9}
    return {
        "role": "teacher",
        "epoch": epoch,
        "target": target,
        "source": source,
        "old": [0] * 60,
        "new": [1] * 60,
    } | scores


METRICS = [
    *scored(2, 0.9, 0.5, 0.4, 0.1),
    *scored(4, 0.2, 0.6, 0.5, None),
    *scored(6, 0.3, 0.6, 0.7, 0.7),
    {"role": "student", "split": "validation", "epoch": 8, "member": 9, "accuracy": 1.0},
    {"role": "teacher", "split": "train", "epoch": 9, "member": 0, "accuracy": 1.0},
    {"role": "teacher", "split": "validation", "epoch": 10, "member": None, "accuracy": 1.0},
]
LINEAGE = [exploit(2, 3, 0), exploit(4, 2, 1), exploit(4, 0, 3)]


def test_a_small_search() -> None:
    found = lineage_data("teacher", METRICS, LINEAGE, epochs=8)
    assert found is not None
    assert (found.population, found.epochs, found.reached, found.best) == (
        4,
        8,
        6,
        2,
    )  # 2 and 3 are equal: the lower id
    assert [(b.member, b.start, b.end) for b in found.branches] == [(1, 0, 4), (2, 4, 6)]
    assert found.overwritten
    assert found.rounds == 2
    assert [(e.epoch, e.target, e.source, through) for e, through in found.copies] == [
        (2, 3, 0, False),
        (4, 2, 1, True),
        (4, 0, 3, False),
    ]


def test_shades_are_ranks_among_those_evaluated() -> None:
    found = lineage_data("teacher", METRICS, LINEAGE)
    assert found is not None
    top = LEVELS - 1
    by_member = {member: [s for s in found.stretches if s.member == member] for member in range(4)}
    assert by_member[0] == [Stretch(0, 0, 2, top), Stretch(0, 2, 4, 2), Stretch(0, 4, 6, 0)]
    assert by_member[1][:2] == [Stretch(1, 0, 2, 4), Stretch(1, 2, 4, top)]
    assert by_member[3][:2] == [
        Stretch(3, 0, 4, 0),
        Stretch(3, 4, 6, 4),
    ]  # diverged is below all: one stretch
    assert all(s.level is None or 0 <= s.level <= top for s in found.stretches)


def test_the_spread_is_of_known_scores() -> None:
    found = lineage_data("teacher", METRICS, LINEAGE)
    assert found is not None
    assert [row[0] for row in found.spread] == [2, 4, 6]
    assert found.spread[1] == pytest.approx((4, 0.6, 0.55, 0.5, 0.35, 0.2))


def test_a_best_member_that_was_never_overwritten() -> None:
    found = lineage_data("teacher", METRICS, LINEAGE, best=1, epochs=6)
    assert found is not None
    assert not found.overwritten
    assert [(b.member, b.start, b.end) for b in found.branches] == [(1, 0, 6)]


def test_logs_of_the_exploits_alone() -> None:
    found = lineage_data("teacher", [], LINEAGE, population=4, epochs=6, best=0)
    assert found is not None
    assert [(b.member, b.start, b.end) for b in found.branches] == [(0, 0, 2), (3, 2, 4)]
    assert {s.level for s in found.stretches} == {None}
    assert found.spread == ()


def test_nothing_of_a_role() -> None:
    assert lineage_data("student", [line for line in METRICS if line["role"] == "teacher"], LINEAGE) is None


def test_a_line_that_is_no_exploit() -> None:
    with pytest.raises(InputError, match="must hold `source`"):
        lineage_data("teacher", METRICS, [{"role": "teacher", "epoch": 1, "target": 0, "old": [], "new": []}])


@pytest.mark.parametrize("seed", range(6))
def test_the_history_is_the_one_that_was_copied_along(seed: int) -> None:
    """The made-up search carries each member's history forward; the picture traces it back."""
    search = Search("student", population=9, epochs=40, interval=3, quiet=9, seed=seed).run()
    found = lineage_data("student", search.metrics, search.lineage, epochs=40)
    assert found is not None
    assert found.best == search.best
    forward = [vector for length, vector in search.segments for _ in range(length)]
    news = {(e.epoch, e.target): list(e.new) for e, _ in found.copies}
    backward = [
        news[branch.start, branch.member] if branch.start else [0] * 60
        for branch in found.branches
        for _ in range(branch.start, branch.end)
    ]
    assert backward == forward
    assert any(any(vector) for vector in forward)


def test_from_a_run_directory(demo: Path) -> None:
    found = load(demo).lineage_data("student")
    expected = json.loads((demo / "results.json").read_text())["searches"]["student"]
    assert found is not None
    assert (found.best, found.population, found.rounds) == (
        expected["best"],
        expected["population"],
        expected["rounds"],
    )
    assert found.overwritten == expected["overwritten"]
