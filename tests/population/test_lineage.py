"""Tracing against a simulator that keeps what really happened to every trial's weights."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pbt_simulator import ZEROS, Simulation, parse_trial_file

from rolewise.augment import Policy, Schedule
from rolewise.errors import InputError
from rolewise.population import Exploit, Lineage, read_global, write_logs
from rolewise.population.text_logs import global_lines, policy_lines

PUBLISHED = [(57, 0), (3, 1), (72, 2), (39, 3), (29, 4)]  # segments of the released trial 0


def lineage_of(simulation: Simulation, trials: int, beginning=None) -> Lineage:
    initial = None if beginning is None else tuple(tuple(vector) for vector in beginning)
    lineage = Lineage(trials, simulation.epochs, initial)
    for epoch, target, source, old, new in simulation.rows:
        lineage.add(Exploit(epoch, target, source, 0.1, 0.2, tuple(old), tuple(new)))
    return lineage


@given(
    seed=st.integers(0, 10_000),
    trials=st.integers(4, 16),
    epochs=st.integers(4, 40),
    interval=st.integers(1, 6),
    late=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_traced_policies_are_those_the_weights_have_seen(seed, trials, epochs, interval, late):
    interval = min(interval, epochs)
    simulation = Simulation(trials, epochs, interval, seed, late=late).run()
    lineage = lineage_of(simulation, trials)
    for trial in range(trials):
        assert lineage.trace(trial) == simulation.segments(trial)
        assert sum(length for length, _ in lineage.trace(trial)) == epochs


@given(seed=st.integers(0, 10_000), late=st.booleans())
@settings(max_examples=15, deadline=None)
def test_global_log_and_trial_files_agree(seed, late, tmp_path_factory):
    """Fact 31, with stale lines and trials that were never overwritten."""
    folder = tmp_path_factory.mktemp("logs")
    simulation = Simulation(8, 30, 3, seed, late=late).run()
    simulation.write(folder)
    traced = read_global(folder / "pbt_global.txt", epochs=30, population=8)
    for trial in range(8):
        assert traced.trace(trial) == simulation.segments(trial)
        if trial in simulation.files:
            lines = (folder / f"pbt_policy_{trial}.txt").read_text().splitlines()
            assert parse_trial_file(lines, 30) == simulation.segments(trial)
            loaded = Schedule.load(folder / f"pbt_policy_{trial}.txt", 30)
            assert [(n, tuple(policy.to_vector())) for n, policy in loaded.segments] == simulation.segments(
                trial
            )
        if not any(trial in row[1:3] for row in simulation.rows):
            continue  # `Schedule.load` cannot know of a trial that no line names
        loaded = Schedule.load(folder / "pbt_global.txt", 30, trial=trial)
        assert [(n, tuple(policy.to_vector())) for n, policy in loaded.segments] == simulation.segments(trial)


def test_simulated_logs_hold_stale_lines_and_untouched_trials():
    """Otherwise the test above would prove little."""
    stale = untouched = 0
    for seed in range(30):
        simulation = Simulation(8, 30, 3, seed).run()
        untouched += 8 - len(simulation.files)
        for lines in simulation.files.values():
            rows = [json.loads(line) for line in lines]
            stale += any(rows[i][0] != rows[i + 1][1] for i in range(len(rows) - 1))
    assert stale >= 10
    assert untouched >= 3


@given(seed=st.integers(0, 10_000), warm=st.booleans())
@settings(max_examples=15, deadline=None)
def test_written_logs_are_read_as_what_happened(seed, warm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    beginning = None
    if warm:
        beginning = [[(epoch // 4) % 9] * 60 for epoch in range(20)]
    simulation = Simulation(6, 20, 2, seed, beginning=beginning).run()
    write_logs(lineage_of(simulation, 6, beginning), folder)
    back = read_global(folder / "pbt_global.txt", epochs=20, population=6)
    for trial in range(6):
        truth = simulation.segments(trial)
        assert back.trace(trial) == truth
        path = folder / f"pbt_policy_{trial}.txt"
        assert path.exists() == (warm or trial in simulation.files)
        if path.exists():
            lines = path.read_text().splitlines()
            assert parse_trial_file(lines, 20) == truth
            rows = [json.loads(line) for line in lines]
            assert all(rows[i][0] == rows[i + 1][1] for i in range(len(rows) - 1))  # no stale lines
            loaded = Schedule.load(path, 20)
            assert [(n, tuple(policy.to_vector())) for n, policy in loaded.segments] == truth


def test_released_logs_have_their_segments(shared):
    # method facts 26 and 28
    path = shared / "schedules" / "role-kd_pbt_policy_0.txt"
    lines = path.read_text().splitlines()
    assert len(lines) == 10
    found = parse_trial_file(lines, 200)
    assert [length for length, _ in found] == [length for length, _ in PUBLISHED]
    traced = read_global(path, epochs=200).trace(0)
    assert traced == found
    assert traced[0] == (57, tuple(ZEROS))
    assert traced[1][1][:8] == (3, 2, 6, 2, 3, 1, 9, 3)
    assert traced[-1][1][:10] == (2, 7, 6, 4, 4, 3, 8, 9, 10, 6)
    assert traced[-1][1][-4:] == (3, 4, 10, 6)
    loaded = Schedule.load(path, 200)
    assert [(n, tuple(policy.to_vector())) for n, policy in loaded.segments] == found


def test_older_logs_are_python_literals(shared):
    path = shared / "schedules" / "rcifar10_16_wrn.txt"
    lineage = read_global(path, epochs=200)
    last = int(parse_rows(path)[-1][0])
    assert lineage.trace(last) == parse_trial_file(path.read_text().splitlines(), 200)


def parse_rows(path):
    import ast

    return [ast.literal_eval(line) for line in path.read_text().splitlines()]


@pytest.fixture
def lineage() -> Lineage:
    lineage = Lineage(4, 12)
    a, b, c = (tuple([n] * 60) for n in (1, 2, 3))
    lineage.add(Exploit(3, 0, 2, 0.1, 0.4, tuple(ZEROS), a))
    lineage.add(Exploit(6, 1, 0, 0.2, 0.5, a, b))
    lineage.add(Exploit(9, 0, 3, None, 0.6, tuple(ZEROS), c))
    return lineage


def test_branches_name_the_member_that_ran_each_part(lineage):
    parts = [(part.member, part.start, part.end) for part in lineage.branches(1)]
    assert parts == [(2, 0, 3), (0, 3, 6), (1, 6, 12)]
    assert lineage.trace(2) == [(12, tuple(ZEROS))]
    assert [length for length, _ in lineage.trace(0)] == [9, 3]
    assert lineage.overwritten() == {0, 1}
    assert lineage.tree() == ["0: 3 (9) > 0", "1: 2 (3) > 0 (6) > 1", "2: 2", "3: 3"]
    assert [part.member for part in lineage.branches(0, 6)] == [2, 0]  # before it was overwritten again


def test_lines_of_the_log(lineage):
    line = json.loads(global_lines(lineage)[0])
    assert line == ["0", "2", 2, 3, {"hp_policy": ZEROS}, {"hp_policy": [1] * 60}]
    assert len(global_lines(lineage)) == 3
    assert [json.loads(line)[3] for line in policy_lines(lineage, 1)] == [3, 6]
    assert policy_lines(lineage, 2) == []


def test_a_json_line_comes_back(lineage):
    for exploit in lineage.exploits:
        line = exploit.to_json("teacher")
        assert set(line) == {
            "role",
            "epoch",
            "target",
            "source",
            "target_score",
            "source_score",
            "old",
            "new",
        }
        assert Exploit.from_json(json.loads(json.dumps(line))) == exploit


def test_reading_takes_one_role_alone(lineage, tmp_path):
    lines = [exploit.to_json("teacher") for exploit in lineage.exploits]
    lines.append(Exploit(3, 1, 2, 0.1, 0.2, tuple(ZEROS), tuple(ZEROS)).to_json("student"))
    (tmp_path / "lineage.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = Lineage.read(tmp_path, role="teacher", population=4, epochs=12)
    assert read.exploits == lineage.exploits


def test_equal_neighbors_are_one_segment():
    lineage = Lineage(4, 6)
    same = tuple([4] * 60)
    lineage.add(Exploit(2, 0, 1, 0.1, 0.2, tuple(ZEROS), same))
    lineage.add(Exploit(4, 2, 0, 0.1, 0.2, same, same))
    assert lineage.trace(2) == [(2, tuple(ZEROS)), (4, same)]


def test_a_warm_start_is_what_members_begin_with():
    initial = tuple(tuple([epoch] * 60) for epoch in range(6))
    lineage = Lineage(4, 6, initial)
    lineage.add(Exploit(3, 0, 1, 0.1, 0.2, initial[3], tuple([9] * 60)))
    assert lineage.trace(1) == [(1, vector) for vector in initial]
    assert lineage.trace(0) == [*((1, vector) for vector in initial[:3]), (3, tuple([9] * 60))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense\n", "line 1, is no exploit"),
        ('["0", "1", 2, 3, {}, {}]\n', "line 1, is no exploit"),
        ('["0", "1", 2, 3, [1], [2]]\n', "policies must hold 60 integers"),
        ('["a", "1", 2, 3, {"hp_policy": []}, {"hp_policy": []}]\n', "line 1"),
        ("[" * 5000 + "\n", "line 1"),
        ("-" * 100_000 + "1\n", "line 1"),
        ("+".join("1" * 100_000) + "\n", "line 1"),
        ("__import__('os').system('exit')\n", "line 1.*neither JSON nor a Python literal"),
        (
            f'["0", "1", 2, 300, {ZEROS}, {ZEROS}]\n',
            "`epoch` must be an integer from 0 to 200, got 300",
        ),
    ],
)
def test_broken_logs_are_refused(text, words, tmp_path):
    path = tmp_path / "pbt_global.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_global(path, epochs=200)


def test_missing_logs_and_strange_members_are_refused(tmp_path, lineage):
    with pytest.raises(InputError, match="There is no file"):
        read_global(tmp_path / "none.txt", epochs=200)
    with pytest.raises(InputError, match="`target` must be an integer from 0 to 3, got 4"):
        lineage.add(Exploit(3, 4, 0, 0.1, 0.2, tuple(ZEROS), tuple(ZEROS)))
    with pytest.raises(InputError, match="`initial` must hold 5 vectors"):
        Lineage(4, 5, (tuple(ZEROS),))
    with pytest.raises(InputError, match="must hold `target`"):
        Exploit.from_json({"epoch": 3})


def test_zero_policies_decode_to_no_augmentation():
    assert Policy.from_vector(ZEROS) == Policy.none()
