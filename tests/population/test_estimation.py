"""The estimate of a search's time: what is computed from the speeds, and what comes true."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_trainer import Script
from searches import fake_plan, run_fake

from rolewise.errors import InputError
from rolewise.population.estimation import Speed, compute, measure
from rolewise.population.methods import make_strategy
from rolewise.settings.search import SearchSettings

SPEED = Speed(
    steps=31,
    epoch_seconds=10.0,
    evaluation_seconds=4.0,
    exchange_seconds=0.5,
    state_bytes=1_000_000,
    measured_seconds=1.0,
)


def test_the_papers_search_costs_what_its_numbers_say():
    """16 members, 200 epochs of 31 steps of 128: 99,200 steps and 12.7 million images; 67 evaluations
    each."""
    found = compute([SPEED], make_strategy(SearchSettings()), slots=1, start=3.0, batch_size=128)
    assert found.steps == 99_200
    assert found.images == 99_200 * 128
    assert found.evaluations == 16 * 67
    assert found.training == 16 * 200 * 10.0
    assert found.evaluation == 16 * 67 * 4.0
    assert found.exchange == 16 * 67 * 0.5
    assert found.seconds == 3.0 + found.training + found.evaluation + found.exchange


@pytest.mark.parametrize(("slots", "turns"), [(1, 16), (2, 8), (3, 6), (5, 4), (16, 1), (40, 1)])
def test_members_meet_so_the_fullest_worker_counts(slots, turns):
    found = compute([SPEED, SPEED], make_strategy(SearchSettings()), slots=slots, start=0.0, batch_size=128)
    assert found.training == turns * 200 * 10.0
    assert found.workers == min(slots, 16)


def test_workers_of_different_speed_are_averaged():
    fast = Speed(**{**vars(SPEED), "epoch_seconds": 6.0})
    assert (
        compute([SPEED, fast], make_strategy(SearchSettings()), slots=2, start=0.0, batch_size=1).training
        == 8 * 200 * 8.0
    )


def test_controls_are_evaluated_once():
    found = compute(
        [SPEED], make_strategy(SearchSettings(method="random")), slots=1, start=0.0, batch_size=128
    )
    assert found.evaluations == 16
    assert found.training == 16 * 200 * 10.0


def test_long_epochs_are_not_measured_whole(tmp_path, monkeypatch):
    (tmp_path / "notes").mkdir()
    monkeypatch.setattr("fake_trainer.STEPS", 1000)
    plan = fake_plan(Script(tmp_path / "notes", step_seconds=0.3), population=4, epochs=1, interval=1)
    begun = time.monotonic()
    found = measure(plan, workers=1)
    assert time.monotonic() - begun < 10
    assert found.training == pytest.approx(4 * 1000 * 0.3, rel=0.1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_takes_the_time_that_was_told(tmp_path, workers):
    """With steps that sleep, so that it is known how long they take on a machine without other programs."""
    (tmp_path / "notes").mkdir()
    script = Script(tmp_path / "notes", step_seconds=0.01, evaluation_seconds=0.1)
    plan = fake_plan(script, population=4, epochs=10, interval=5)
    found = measure(plan, workers=workers)
    begun = time.monotonic()
    run_fake(plan, workers=workers)
    took = time.monotonic() - begun
    alone = (4 * 10 * 3 * 0.01 + 4 * 2 * 0.1) / workers
    assert found.seconds - found.start == pytest.approx(alone, rel=0.3)
    assert took > alone
    text = str(found)
    assert text.startswith("about ")
    assert f"with {workers} members at a time" in text
    assert f"{4 * 10 * 3 * 4:,} training images, 8 evaluations" in text


def test_long_searches_are_told_in_hours():
    found = compute([SPEED], make_strategy(SearchSettings()), slots=4, start=0.0, batch_size=128)
    assert str(found).startswith(f"about {found.seconds / 3600:.1f} hours with 4 members at a time")


def test_a_busy_machine_slows_the_start_of_the_workers_too():
    slow = replace(SPEED, slowdown=4.0)
    found = compute([slow, slow], make_strategy(SearchSettings()), slots=2, start=8.0, batch_size=1)
    assert found.slowdown == 4
    assert found.start == 2


def test_an_estimate_refuses_what_a_search_refuses():
    with pytest.raises(InputError, match="`workers` must be an integer at least 1, got 0"):
        measure(fake_plan(Script(Path())), workers=0)
