"""Search algorithms: a new one is a class and a row, and the loop takes whatever it decides."""

import re
from pathlib import Path

import numpy as np
import pytest
from fake_trainer import Script
from searches import fake_plan, run_fake, told

from rolewise.augment import Policy, RandAugment, Schedule
from rolewise.errors import RunError
from rolewise.population import METHODS, Decision, Strategy, exploit, explore
from rolewise.population.methods import make_strategy
from rolewise.population.state import common_vectors
from rolewise.runs import read_lineage
from rolewise.settings import SearchSettings

ZEROS = (0,) * 60
DOCS = Path(__file__).parents[2] / "docs" / "searching.md"


class Shift(Strategy):
    """Each member takes over its neighbor's weights, under a policy that counts the boundaries."""

    name = "shift"

    def beginnings(self, seed, role):
        members = range(self.settings.population)
        return [Schedule.constant(Policy.from_vector([m % 10] * 60), self.settings.epochs) for m in members]

    def decide(self, scores, vectors, rng):
        n = len(scores)
        return [Decision(m, (m + 1) % n, tuple((v + 1) % 10 for v in vectors[(m + 1) % n])) for m in range(n)]


@pytest.fixture
def script(tmp_path):
    (tmp_path / "notes").mkdir()
    return Script(tmp_path / "notes")


def test_a_new_strategy(script, tmp_path, monkeypatch):
    """All members are targets and sources at once, and begin with policies of their own."""
    monkeypatch.setitem(METHODS, "shift", Shift)
    numbers = {"population": 4, "epochs": 6, "interval": 2, "method": "shift"}
    result = run_fake(fake_plan(script, **numbers), tmp_path / "run")
    lines = read_lineage(tmp_path / "run")
    assert [(line["epoch"], line["target"], line["source"]) for line in lines] == [
        (epoch, member, (member + 1) % 4) for epoch in (2, 4) for member in range(4)
    ]
    seen = [[member] * 6 for member in range(4)]  # each member's history: a number for each epoch
    for epoch in (2, 4):
        now = [history[epoch] for history in seen]
        for member in range(4):  # one after the other, so that 3 takes what 0 has become
            source = (member + 1) % 4
            seen[member] = seen[source][:epoch] + [now[source] + 1] * (6 - epoch)
    assert [policy.to_vector()[0] for policy in result.schedule] == seen[result.best]
    assert result.schedule.provenance["method"] == "shift"
    again = told(run_fake(fake_plan(script, **numbers), tmp_path / "again", workers=2), tmp_path / "again")
    assert again == told(result, tmp_path / "run")


def test_policies_without_vectors_cannot_be_copied(script, monkeypatch):
    class Strange(Shift):
        name = "strange"

        def beginnings(self, seed, role):
            return [Schedule.constant(RandAugment(), self.settings.epochs)] * self.settings.population

        def decide(self, scores, vectors, rng):
            assert list(vectors) == [None] * 4
            return [Decision(0, 1, ZEROS)]

    monkeypatch.setitem(METHODS, "strange", Strange)
    with pytest.raises(RunError, match='"strange" copied member 1, whose policy is no PBA policy'):
        run_fake(fake_plan(script, population=4, epochs=4, interval=2, method="strange"))


def test_the_documented_strategy_runs(script, tmp_path, monkeypatch):
    code = re.search(r"(?s)```python\n(import numpy.*?)```", DOCS.read_text()).group(1)
    code = code[: code.index("METHODS[BestOnly.name]")]
    names: dict = {}
    exec(code, names)
    monkeypatch.setitem(METHODS, "best-only", names["BestOnly"])
    result = run_fake(
        fake_plan(script, population=4, epochs=4, interval=2, method="best-only"), tmp_path / "run"
    )
    lines = read_lineage(tmp_path / "run")
    assert {line["source"] for line in lines} == {int(np.argmax(result.history[0]["scores"]))}
    assert all(sum(a != b for a, b in zip(line["old"], line["new"], strict=True)) <= 1 for line in lines)


def test_pba_decides_as_the_published_functions_do():
    settings = SearchSettings(population=8, quantile=0.5, resample=0.7)
    scores = [0.5, None, 0.2, 0.9, 0.1, 0.8, 0.3, 0.4]
    vectors = [(member % 9,) * 60 for member in range(8)]
    found = make_strategy(settings).decide(scores, vectors, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    moves = exploit(scores, rng, quantile=0.5)
    assert 1 in {target for target, _ in moves}
    assert found == [(t, s, tuple(explore(vectors[s], rng, resample=0.7))) for t, s in moves]


def test_every_row_is_named_after_its_class_and_gives_a_schedule_for_each_member():
    settings = {"population": 5, "epochs": 7, "interval": 2}
    given = [Schedule.none(7)] * 5
    for name, strategy in METHODS.items():
        assert strategy.name == name
        schedules = given if strategy.takes_schedules else None
        one = make_strategy(SearchSettings(**settings, method=name), schedules=schedules)
        beginnings = one.beginnings(3, "teacher")
        assert [len(schedule) for schedule in beginnings] == [7] * 5
        assert beginnings == one.beginnings(3, "teacher")
        assert one.boundaries == [2, 4, 6, 7]
        assert [one.scores_at(boundary) for boundary in one.boundaries] == [one.decides] * 3 + [True]


def test_what_members_have_in_common_at_the_beginning():
    warm = Schedule([(1, Policy.from_vector([1] * 60)), (2, Policy.from_vector([2] * 60))])
    pba = make_strategy(SearchSettings(epochs=3), warm_start=warm)
    assert common_vectors(pba, pba.beginnings(0, "teacher")) == ((1,) * 60, (2,) * 60, (2,) * 60)
    plain = make_strategy(SearchSettings(epochs=3))
    assert common_vectors(plain, plain.beginnings(0, "teacher")) is None
    shift = Shift(SearchSettings(epochs=3))
    assert common_vectors(shift, shift.beginnings(0, "teacher")) is None
