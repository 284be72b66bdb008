"""The loop of a search, in this process and with a trainer that takes no time."""

import json
import math
import os
import weakref

import pytest
from fake_trainer import STEPS, FakeTrainer, Script, Small
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import After, Heard, fake_plan, run_fake, run_to_the_end, told

from rolewise.augment import NAMED, Policy, RandAugment, Schedule
from rolewise.errors import InputError, Interrupted, RunError
from rolewise.population import exploit, explore, randaugment_grid
from rolewise.population.runner import reinitialize
from rolewise.runs import RunDirectory, read_lineage, read_metrics
from rolewise.seeds import numpy_generator
from rolewise.settings.search import SearchSettings

ZEROS = (0,) * 60
SMALL = {"population": 4, "epochs": 4, "interval": 2}


@pytest.fixture
def script(tmp_path):
    (tmp_path / "notes").mkdir()
    return Script(tmp_path / "notes")


def plain_search(plan, script):
    """The published loop without engines, tasks or checkpoints: one trainer for each member."""
    options, spec = plan.settings, plan.spec
    trainers, policies = [], [[ZEROS] * options.epochs for _ in range(options.population)]
    for member in range(options.population):
        model = Small()
        reinitialize(model, spec.seed, "init", spec.role, member)
        about = {"seed": spec.seed, "role": spec.role, "member": member}
        trainer = FakeTrainer(model, None, spec.train, spec.settings, script=script, **about)
        trainer.progress = Heard()
        trainers.append(trainer)
    scores = []
    for boundary in [*range(options.interval, options.epochs, options.interval), options.epochs]:
        for trainer, planned in zip(trainers, policies, strict=True):
            while trainer.epoch < boundary:
                trainer.train_epoch(Policy.from_vector(planned[trainer.epoch]))
        scores = [trainer.evaluate(spec.validation).accuracy for trainer in trainers]
        if boundary == options.epochs:
            break
        rng = numpy_generator(spec.seed, "pbt", spec.role, boundary)
        for target, source in exploit(scores, rng):
            new = tuple(explore(policies[source][boundary], rng))
            trainers[target].load_state(trainers[source].state())
            policies[target] = policies[source][:boundary] + [new] * (options.epochs - boundary)
    best = max(range(options.population), key=lambda member: (scores[member], -member))
    return scores, best, policies[best]


@pytest.mark.parametrize("seed", range(4))
def test_a_search_does_what_the_plain_loop_does(script, seed):
    plan = fake_plan(script, seed)
    result = run_fake(plan)
    scores, best, policies = plain_search(plan, script)
    assert list(result.scores) == scores
    assert result.best == best
    assert [tuple(policy.to_vector()) for policy in result.schedule] == policies
    assert result.schedule.role == "teacher"


def test_what_is_logged(script, tmp_path):
    progress = Heard()
    result = run_fake(fake_plan(script), tmp_path / "run", progress=progress)
    metrics = read_metrics(tmp_path / "run")
    for member in range(8):
        mine = [line for line in metrics if line["member"] == member]
        assert [line["epoch"] for line in mine if line["split"] == "train"] == list(range(1, 13))
        assert [line["epoch"] for line in mine if line["split"] == "validation"] == [3, 6, 9, 12]
    assert all(line["role"] == "teacher" for line in metrics)
    lineage = read_lineage(tmp_path / "run")
    assert len(lineage) == 2 * 3  # two of eight, at epochs 3, 6 and 9; none at the end
    assert [line["epoch"] for line in lineage] == [3, 3, 6, 6, 9, 9]
    finals = {
        line["member"]: line["accuracy"]
        for line in metrics
        if line["split"] == "validation" and line["epoch"] == 12
    }
    assert [finals[member] for member in range(8)] == list(result.scores)
    by_epoch = {epoch: (scores, moves) for epoch, scores, moves in progress.rounds}
    for line in lineage:
        scores, moves = by_epoch[line["epoch"]]
        assert (line["target"], line["source"]) in moves
        assert line["target_score"] == scores[line["target"]]
        assert line["source_score"] == scores[line["source"]]
    assert by_epoch[12][1] == []
    # what is told adds up
    assert progress.images == result.images == 8 * 12 * STEPS * 4
    assert progress.started == {
        "stage": "search-teacher",
        "epochs": 12,
        "images": 20,
        "members": 8,
        "done": 0,
    }
    assert f"member {result.best}" in progress.finished
    assert len(result.schedule.segments) == 1
    assert progress.finished.endswith(", 1 policy")
    assert result.cost.evaluations == 8 * 4


def test_two_hundred_epochs_at_interval_three_are_evaluated_sixty_seven_times(script):
    result = run_fake(fake_plan(script, population=4, epochs=200))
    notes = [path.name for path in script.notes.iterdir()]
    for member in range(4):
        assert sum(name.startswith(f"evaluation-{member}-") for name in notes) == 67
    assert result.cost.evaluations == 4 * 67
    assert [entry["epoch"] for entry in result.history] == [*range(3, 200, 3), 200]


def test_all_members_begin_with_zeros_and_weights_of_their_own(script):
    result = run_fake(fake_plan(script, population=4, epochs=3, interval=3))
    assert len(set(result.scores)) == 4
    assert result.schedule.segments == ((3, Policy.none()),)
    assert not result.overwritten


def test_given_weights_are_every_members_beginning(script, monkeypatch):
    begun = []
    become = FakeTrainer.load_state
    monkeypatch.setattr(
        FakeTrainer, "load_state", lambda self, state: (begun.append(state), become(self, state))
    )
    model = Small()
    run_fake(fake_plan(script, model=model, init="given", population=4, epochs=1, interval=1))
    assert begun
    for state in begun:
        for name, tensor in model.state_dict().items():
            assert (state.tensors[f"model.{name}"] == tensor).all()


def test_the_same_seed_gives_the_same_and_another_one_does_not(script, tmp_path):
    first = told(run_fake(fake_plan(script), tmp_path / "a"), tmp_path / "a")
    assert told(run_fake(fake_plan(script), tmp_path / "b"), tmp_path / "b") == first
    assert told(run_fake(fake_plan(script, seed=4), tmp_path / "c"), tmp_path / "c") != first


def test_only_states_are_held(script, monkeypatch):
    """At most one state for each member, and the one that is in use."""
    most, states = 0, []
    original = FakeTrainer.state

    def counted(self):
        nonlocal most
        state = original(self)
        states.append(weakref.ref(state))
        most = max(most, sum(one() is not None for one in states))
        return state

    monkeypatch.setattr(FakeTrainer, "state", counted)
    run_fake(fake_plan(script, population=4, epochs=6, interval=1))
    assert len(states) == 1 + 4 * 6  # the beginning, and one for each task
    assert most <= 1 + 4 + 2  # the beginning, the members', and what is on its way


# Interruptions.


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    (folder / "notes").mkdir()
    return told(run_fake(fake_plan(Script(folder / "notes"), **SMALL), folder / "run"), folder / "run")


@given(at=st.lists(st.integers(0, 70), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None)
def test_interrupted_anywhere_it_ends_the_same(at, uninterrupted, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    (root / "notes").mkdir()
    plan = fake_plan(Script(root / "notes"), **SMALL)
    result, _ = run_to_the_end(plan, root / "parts", [After(n) for n in at], seconds=1e9)
    assert told(result, root / "parts") == uninterrupted


def test_a_stop_takes_effect_between_two_batches(script, tmp_path):
    progress = Heard()
    with pytest.raises(Interrupted):
        run_fake(fake_plan(script), tmp_path / "run", stop=After(5), progress=progress)
    # one question before the first member, one before each batch
    assert progress.images == 4 * 4
    with RunDirectory.open(tmp_path / "run") as run:
        saved = run.checkpoints("search-teacher").latest()
        assert saved.state["members"][0]["info"] == {"epoch": 1, "step": 1}
        assert saved.state["members"][1]["info"] is None


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, range(8, 60, 7)), (1e9, [5, 9, 13, 17])])
def test_killed_at_any_step_on_the_file_system_it_ends_the_same(
    script, tmp_path, uninterrupted, seconds, steps
):
    """With a checkpoint at every boundary, and with none at all."""
    killed = 0
    for step in steps:
        folder = tmp_path / f"{step}"
        RunDirectory.create(folder, {}).close()
        child = os.fork()
        if child == 0:
            os.environ["ROLEWISE_CRASH_AT"] = str(step)
            try:
                run_fake(fake_plan(script, **SMALL), folder, seconds=seconds)
            finally:
                os._exit(0)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
        assert told(run_fake(fake_plan(script, **SMALL), folder, seconds=seconds), folder) == uninterrupted
    assert killed >= len(steps) - 1


def test_a_search_goes_on_with_the_same_settings_only(script, tmp_path):
    with pytest.raises(Interrupted):
        run_fake(fake_plan(script), tmp_path / "run", stop=After(20))
    with pytest.raises(InputError, match="begun with other settings: options.quantile was 0.25 and is 0.5"):
        run_fake(fake_plan(script, quantile=0.5), tmp_path / "run")
    with pytest.raises(InputError, match="begun with other settings: seed was 3 and is 5"):
        run_fake(fake_plan(script, seed=5), tmp_path / "run")
    progress = Heard()
    run_fake(fake_plan(script), tmp_path / "run", progress=progress)
    assert any("resumed after epoch 0 of 12" in note for note in progress.notes)


def test_young_checkpoints_spare_new_ones(script, tmp_path, monkeypatch):
    from rolewise.runs import CheckpointStore

    saves = []
    original = CheckpointStore.save
    monkeypatch.setattr(
        CheckpointStore, "save", lambda self, *a, **k: (saves.append(a), original(self, *a, **k))[1]
    )
    run_fake(fake_plan(script), tmp_path / "often", seconds=0.0)
    assert len(saves) == 3  # at 3, 6, 9; the end needs none
    assert len(list((tmp_path / "often" / "checkpoints" / "search-teacher").iterdir())) == 2
    run_fake(fake_plan(script), tmp_path / "seldom", seconds=3600.0)
    assert len(saves) == 3


# Divergence.


def with_script(script, **changes):
    return Script(**{**vars(script), **changes})


def test_a_diverged_member_is_last_is_replaced_and_is_counted(script, tmp_path):
    script = with_script(script, diverge=frozenset({(0, 1), (5, 4)}))
    progress = Heard()
    result = run_fake(fake_plan(script), tmp_path / "run", progress=progress)
    lines = read_lineage(tmp_path / "run")
    assert {(line["epoch"], line["target"]) for line in lines} >= {(3, 0), (6, 5)}
    for line in lines:
        if (line["epoch"], line["target"]) in {(3, 0), (6, 5)}:
            assert line["target_score"] is None
            assert line["source_score"] is not None
    assert result.diverged == 2
    assert [note for note in progress.notes if "diverged" in note] == [
        "Member 0 diverged by epoch 2.",
        "Member 5 diverged by epoch 5.",
    ]
    assert progress.rounds[0][1][0] is None
    losses = [
        line for line in read_metrics(tmp_path / "run") if line["member"] == 0 and line["split"] == "train"
    ]
    assert [line["epoch"] for line in losses][:4] == [1, 2, 4, 5]  # not trained on after it diverged
    assert losses[1]["loss"] is None


def test_more_diverged_members_than_are_replaced_wait_untrained(script, tmp_path):
    script = with_script(script, diverge=frozenset((member, 0) for member in range(5)))
    result = run_fake(fake_plan(script), tmp_path / "run")
    lines = read_lineage(tmp_path / "run")
    # two a round, the highest ids first, never from a diverged source
    assert [(line["epoch"], line["target"]) for line in lines] == [
        (3, 3),
        (3, 4),
        (6, 1),
        (6, 2),
        (9, 0),
        *last(lines),
    ]
    assert all(line["source_score"] is not None for line in lines)
    assert result.diverged == 5
    trained = [
        line["epoch"]
        for line in read_metrics(tmp_path / "run")
        if line["member"] == 0 and line["split"] == "train"
    ]
    assert trained == [1, 10, 11, 12]


def last(lines):
    return [(line["epoch"], line["target"]) for line in lines[5:]]


def test_a_member_that_diverges_after_the_last_exploit_is_not_chosen(script):
    best = run_fake(fake_plan(script)).best
    result = run_fake(fake_plan(with_script(script, diverge=frozenset({(best, 11)}))))
    assert result.best != best
    assert result.scores[best] is None
    assert result.summary()["scores"][best] is None


def test_all_members_diverging_is_the_end_with_a_reason(script, tmp_path):
    script = with_script(script, diverge=frozenset((member, 4) for member in range(8)))
    with pytest.raises(
        RunError, match="All 8 members diverged by epoch 6; the loss was nan in epoch 5.*learning rate"
    ):
        run_fake(fake_plan(script), tmp_path / "run")
    with pytest.raises(RunError, match="All 8 members"):  # nor does continuing help
        run_fake(fake_plan(script), tmp_path / "run")


# Variants.


def test_hopeless_members_wait_if_asked_for(script, tmp_path):
    plain = run_fake(fake_plan(script), tmp_path / "plain")
    result = run_fake(fake_plan(script, early_stop=0.02), tmp_path / "early")
    first = plain.history[0]["scores"]
    behind = {m for m, score in enumerate(first) if max(first) - score > 0.02}
    lines = [line for line in read_lineage(tmp_path / "early") if line["epoch"] == 3]
    waiting = behind - {line["target"] for line in lines}
    assert waiting
    second = result.history[1]["scores"]
    assert {member for member, score in enumerate(second) if score is None} == waiting
    assert result.images < plain.images
    assert result.diverged == 0
    assert SearchSettings(early_stop=True).early_stop == 0.1
    assert SearchSettings(early_stop=False).early_stop is None


def test_a_warm_start_is_followed_until_overwritten(script, tmp_path):
    warm = Schedule([(4, Policy.from_vector([1] * 60)), (8, Policy.from_vector([2] * 60))])
    result = run_fake(fake_plan(script, warm_start=warm), tmp_path / "run")
    lines = read_lineage(tmp_path / "run")
    assert {tuple(line["old"]) for line in lines if line["epoch"] == 3} == {
        (1,) * 60
    }  # what comes next is explored
    untouched = set(range(8)) - {line["source"] for line in lines} - {line["target"] for line in lines}
    replaced = {line["target"] for line in lines if line["epoch"] == 3}
    later = {tuple(line["old"]) for line in lines if line["epoch"] == 6 and line["source"] not in replaced}
    assert later == {(2,) * 60}
    assert untouched
    for member in untouched:
        assert result.lineage.trace(member) == [(4, (1,) * 60), (8, (2,) * 60)]
    root = result.schedule[0].to_vector()
    assert root == [1] * 60
    assert result.schedule.provenance["warm_start"] is not None


@pytest.mark.parametrize("method", ["random", "constant", "randaugment", "autoaugment", "trivialaugment"])
def test_controls_train_as_much_and_are_evaluated_at_the_end(script, tmp_path, method):
    search = run_fake(fake_plan(script), tmp_path / "search")
    result = run_fake(fake_plan(script, method=method), tmp_path / method)
    assert result.images == search.images
    assert result.cost.evaluations == 8
    assert read_lineage(tmp_path / method) == []
    assert result.schedule.provenance["method"] == method
    assert len(result.schedule) == 12
    assert result.best == max(range(8), key=lambda member: (result.scores[member], -member))
    policies = {json.dumps(policy.to_json()) for policy in result.schedule}
    assert len(policies) == (4 if method == "random" else 1)
    if method in NAMED and method not in ("random", "randaugment"):
        assert result.schedule.segments == Schedule.named(method, 12).segments
    if method == "randaugment":
        point = randaugment_grid(8)[result.best]
        assert result.schedule[0] == RandAugment(*point)


def test_given_schedules_are_compared(script):
    schedules = [Schedule.constant(Policy.from_vector([n] * 60), 12) for n in range(4)]
    result = run_fake(fake_plan(script, population=4, method="given", schedules=schedules))
    assert result.schedule[0] == schedules[result.best][0]
    assert result.schedule.provenance["method"] == "given schedules"


def test_controls_go_on_after_an_interruption(script, tmp_path):
    whole = told(run_fake(fake_plan(script, method="random"), tmp_path / "a"), tmp_path / "a")
    result, times = run_to_the_end(fake_plan(script, method="random"), tmp_path / "b", [After(50), After(90)])
    assert times == 2
    assert told(result, tmp_path / "b") == whole


@pytest.mark.parametrize("population", [4, 5, 8, 11, 16, 61, 64])
def test_the_randaugment_grid_has_a_point_for_each_member(population):
    grid = randaugment_grid(population)
    assert len(grid) == len(set(grid)) == population
    assert {ops for ops, _ in grid} <= {1, 2, 3}
    assert all(1 <= level <= 30 for _, level in grid)
    assert max(level for _, level in grid) == 30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"population": 3}, "`population` must be greater than or equal to 4, got 3"),
        ({"population": 65}, "`population` must be less than or equal to 64, got 65"),
        ({"population": 8.0}, "`population` must be an integer, got 8.0"),
        ({"epochs": 0}, "`epochs`"),
        ({"interval": 0}, "`interval`"),
        ({"interval": 13}, r"`interval` must be at most `epochs` \(12\).*got 13"),
        ({"quantile": 0.0}, "`quantile`"),
        ({"quantile": 0.51}, "`quantile`"),
        ({"resample": -0.1}, "`resample`"),
        ({"early_stop": 0.0}, "`early_stop`"),
        ({"early_stop": math.nan}, "`early_stop`"),
        ({"method": "pbt2"}, 'Unknown method of a search "pbt2".*Did you mean "pbt"'),
        ({"schedules": [Schedule.none(12)]}, "`method` holds 1 schedules, but `population` is 8"),
        ({"schedules": [Schedule.none(3)] * 8}, r"`method\[0\]` holds 3 epochs.*stretch\(12\)"),
        ({"schedules": ["pbt"] * 8}, r"`method\[0\]` must be a Schedule, got str"),
        ({"method": "given"}, '`method` "given" takes schedules of yours: give `method` a list'),
        ({"method": "pbt", "schedules": [Schedule.none(12)] * 8}, '`method` "pbt" makes its own schedules'),
        ({"warm_start": Schedule.none(11)}, r"`warm_start` holds 11 epochs.*warm_start.stretch\(12\)"),
        ({"warm_start": "A_T.json"}, "`warm_start` must be a Schedule or None, got str"),
        ({"warm_start": Schedule.constant(RandAugment(), 12)}, "`warm_start` must hold PBA policies"),
        ({"warm_start": Schedule.none(12), "method": "random"}, "`warm_start` belongs to method"),
    ],
)
def test_bad_options_are_named(script, options, words):
    if "schedules" in options:
        options = {"method": "given", **options}
    with pytest.raises(InputError, match=words):
        fake_plan(script, **options)
