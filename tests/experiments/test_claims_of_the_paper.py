"""Verdicts on made runs whose differences are known."""

import pytest
from made_runs import make_runs

from rolewise.experiments.claims import Claim, Comparison, Quantity, judge
from rolewise.experiments.plan import plan, select
from rolewise.experiments.recipes import Options
from rolewise.experiments.results import collect, schedule_facts
from rolewise.experiments.sentences import verdicts
from rolewise.experiments.site import Site

NOISE = (0.000, 0.004, -0.003)


@pytest.fixture
def measure(tmp_path):
    """Results of the study's soft-label cells, each with the accuracy that is given for its schedule."""

    def run(by_schedule, seeds=3, title="full"):
        options = Options() if title == "full" else Options(scale=0.5)
        site = Site(tmp_path / f"{title}{seeds}", options)
        cells = select(["study"], ["soft", "no-kd", "teacher"])
        work = plan(cells, range(seeds))

        def accuracy(one):
            key = "teacher" if one.role == "teacher" else one.setup.loss
            value = by_schedule.get((key, one.setup.schedule), by_schedule.get(one.setup.schedule, 0.5))
            return value + NOISE[one.seed] * (1 if one.setup.schedule == "a_s" else -1)

        make_runs(site, work, accuracy)
        return collect(site, dict.fromkeys(cells, range(seeds)), work)

    return run


def state_of(results, name):
    return next(one for one in verdicts(results) if one.claim.name == name)


def test_a_large_difference_is_verified(measure):
    results = measure({"a_s": 0.6, "a_t": 0.5})
    claim = Claim("x", "own beats teacher's", "", "study", (soft(4, "a_s", "a_t"), soft(2, "a_s", "a_t")))
    verdict = judge(claim, results)
    assert verdict.state == "verified"
    assert verdict.reason == "all 2 intervals lie above zero"
    assert verdict.judged[0].difference.mean == pytest.approx(0.1 + 2 * 0.001 / 3)


def test_the_opposite_is_contradicted(measure):
    results = measure({"a_s": 0.4, "a_t": 0.5})
    assert judge(Claim("x", "", "", "study", (soft(4, "a_s", "a_t"),)), results).state == "contradicted"


def test_one_seed_decides_nothing(measure):
    results = measure({"a_s": 0.9, "a_t": 0.1}, seeds=1)
    verdict = judge(Claim("x", "", "", "study", (soft(4, "a_s", "a_t"),)), results)
    assert (verdict.state, verdict.more_seeds) == ("undecided", 1)
    assert "one seed has no interval" in verdict.reason


def test_a_difference_inside_the_noise_is_undecided_and_says_how_many_seeds(measure):
    results = measure({"a_s": 0.505, "a_t": 0.5})
    verdict = judge(Claim("x", "", "", "study", (soft(4, "a_s", "a_t"),)), results)
    assert verdict.state == "undecided"
    assert verdict.more_seeds is not None
    assert f"about {verdict.more_seeds} more seeds" in verdict.reason


def test_what_is_not_there_is_not_run_and_never_verified(measure):
    results = measure({"a_s": 0.6, "a_t": 0.5})
    assert judge(Claim("x", "", "", "study", (ii_kd(4),)), results).state == "not run"
    half = judge(Claim("x", "", "", "study", (soft(4, "a_s", "a_t"), ii_kd(4))), results)
    assert half.state == "undecided"
    assert half.reason == "1 of 2 comparisons have results"


def test_many_comparisons_need_a_stronger_contradiction(measure):
    """One of twenty intervals below zero by chance is no contradiction: the confidence is raised for all of them."""
    results = measure({"a_s": 0.491, "a_t": 0.5})
    alone = judge(Claim("x", "", "", "study", (soft(4, "a_s", "a_t"),)), results)
    assert alone.judged[0].difference.high < 0.01
    many = (soft(4, "a_s", "a_t"), *(soft(4, "a_s", "a_s"),) * 19)
    assert judge(Claim("x", "", "", "study", many), results).state == "undecided"


def test_the_scale_is_on_every_verdict(measure):
    assert {one.scale for one in verdicts(measure({}, title="scale 0.5"))} == {"scale 0.5"}


def test_figure3_counts_changes_and_the_start(measure):
    results = measure({})
    verdict = state_of(results, "figure3-soft")
    found = {one.comparison.title: one.difference for one in verdict.judged}
    late = found["4 bit: part of A_S before its first augmentation, above 0.1"]
    fewer = found["4 bit: changes of policy, A_T less A_S"]
    assert late.mean == pytest.approx(0.6 - 0.1)
    assert fewer.mean == 2 - 1


def test_margin_of_four_bits(measure):
    results = measure({("soft", "a_s"): 0.497, ("teacher", "none"): 0.5})
    one = state_of(results, "four-bits-soft").judged[0].difference
    assert one.mean == pytest.approx(0.497 - 0.5 + 0.005 + 2 * 0.001 / 3)


def test_facts_of_a_published_schedule(shared):
    """The released 2-bit schedule: zero until epoch 57, segments 57, 3, 72, 39, 29 (its log says so)."""
    from rolewise.augment import Schedule

    path = shared / "schedules" / "role-kd_pbt_policy_0.txt"
    facts = schedule_facts(Schedule.load(path, epochs=200))
    assert (facts.epochs, facts.changes) == (200, 4)
    assert facts.first_epoch == 57 / 200


def soft(bits, better, worse):
    def cell(word):
        return Quantity(f"study/cifar10/cnn-small/w{bits}a{bits}/soft/{word}")

    return Comparison("", (cell(better),), (cell(worse),))


def ii_kd(bits):
    return Comparison("", (Quantity(f"study/cifar10/cnn-small/w{bits}a{bits}/ii-kd/a_s"),), ())
