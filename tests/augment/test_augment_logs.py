"""Exploit logs: the published files, simulated searches whose history is known, and broken files."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_logs import search

from rolewise.augment import OPS, Policy, Schedule
from rolewise.errors import InputError

ZEROS, ONES = [0] * 60, [1, 2] * 30


def lengths(schedule: Schedule) -> list[int]:
    return [epochs for epochs, _ in schedule.segments]


def write(path, lines) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else repr(line) for line in lines) + "\n")
    return str(path)


class TestPublishedFiles:
    def test_role_kd(self, shared):
        """The worked example of the method's description."""
        schedule = Schedule.load(shared / "schedules" / "role-kd_pbt_policy_0.txt")
        assert lengths(schedule) == [57, 3, 72, 39, 29]
        assert len(schedule) == 200
        assert all(schedule[epoch] == Policy.none() for epoch in range(57))
        active = {
            (copy, name): (p, m)
            for copy in (0, 1)
            for name, p, m in schedule[57].settings[15 * copy : 15 * copy + 15]
            if p > 0
        }
        assert active == {
            (0, "Rotate"): (3, 2), (0, "TranslateX"): (6, 2), (0, "TranslateY"): (3, 1), (0, "Brightness"): (9, 3),
            (0, "Color"): (1, 0), (0, "Posterize"): (3, 0), (0, "ShearY"): (1, 3), (0, "Equalize"): (2, 0),
            (0, "Contrast"): (2, 1), (1, "TranslateY"): (2, 0), (1, "Brightness"): (1, 1), (1, "Posterize"): (7, 2),
            (1, "ShearX"): (7, 5), (1, "Solarize"): (1, 1), (1, "ShearY"): (1, 0), (1, "Equalize"): (1, 0),
            (1, "AutoContrast"): (3, 3), (1, "Cutout"): (1, 2),
        }  # fmt: skip
        assert schedule[57].to_vector()[:10] == [3, 2, 6, 2, 3, 1, 9, 3, 1, 0]
        assert schedule[199].to_vector()[:10] == [2, 7, 6, 4, 4, 3, 8, 9, 10, 6]
        assert schedule[199].to_vector()[-4:] == [3, 4, 10, 6]
        assert schedule.provenance["unused_lines"] == 6
        assert schedule.provenance["trial"] == "0"
        assert schedule.provenance["ops"] == "published"
        with pytest.raises(
            InputError, match=r"of a search of 200 epochs, but `epochs` is 100.*\.stretch\(100\)"
        ):
            Schedule.load(shared / "schedules" / "role-kd_pbt_policy_0.txt", epochs=100)

    def test_pba(self, shared):
        path = shared / "schedules" / "rcifar10_16_wrn.txt"
        schedule = Schedule.load(path, epochs=200)
        # Differences of the fourth fields of the file's lines, with 0 before and 200 after.
        assert lengths(schedule) == [12, 22, 20, 20, 1, 6, 3, 27, 6, 21, 6, 9, 7, 17, 6, 12, 5]
        assert schedule[0] == Policy.none()
        assert schedule[199].to_vector()[:6] == [0, 6, 6, 6, 10, 0]
        assert schedule.provenance["unused_lines"] == 0
        with pytest.raises(
            InputError,
            match="`epochs` must be given: rcifar10_16_wrn.txt does not state .*convert rcifar10_16_wrn.txt OUT.json",
        ):
            Schedule.load(path)
        with pytest.raises(
            InputError, match=r"line 16: .* copied at epoch 195, but the search has 190 epochs"
        ):
            Schedule.load(path, epochs=190)


@pytest.mark.parametrize("python", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5])
def test_simulated_searches(tmp_path, seed, python):
    """Per-trial file, global log and what really happened agree, for every trial; stale lines occur."""
    found = search(seed, python=python)
    epochs = 60 if python else None
    whole = write(tmp_path / "pbt_global.txt", found.whole)
    stale = 0
    for trial, history in enumerate(found.history):
        if trial in found.single:
            single = Schedule.load(write(tmp_path / f"pbt_policy_{trial}.txt", found.single[trial]), epochs)
            assert [policy.to_vector() for policy in single] == history
            stale += single.provenance["unused_lines"]
            assert Schedule.load(whole, epochs, trial=trial).segments == single.segments
        elif any(json.loads(line.replace("'", '"'))[1] == str(trial) for line in found.whole):
            assert [
                policy.to_vector() for policy in Schedule.load(whole, epochs, trial=str(trial))
            ] == history
    assert stale > 0
    with pytest.raises(
        InputError, match="log of all trials: `trial` must say whose schedule to read, one of 0, "
    ):
        Schedule.load(whole, epochs)


def test_a_global_log_is_recognized_by_its_lines_too(tmp_path):
    with pytest.raises(InputError, match="all trials"):
        Schedule.load(write(tmp_path / "log.txt", search(0).whole))


def test_stale_lines_of_any_shape_are_left_out(tmp_path):
    lines = [["9", "4", 2, 3, ONES, ONES], ["7", "1", 5, 6, ONES, ONES], ["2", "5", 8, 9, ZEROS, ONES]]
    schedule = Schedule.load(write(tmp_path / "a.txt", lines), 20)
    assert lengths(schedule) == [9, 11]
    assert schedule[0] == Policy.none()


def test_a_trial_that_no_line_mentions(tmp_path):
    path = write(tmp_path / "pbt_global.txt", [["1", "2", 2, 3, ZEROS, ONES]])
    assert lengths(Schedule.load(path, 9, trial="2")) == [9]
    with pytest.raises(InputError, match=r'Unknown trial "3". Known: "1", "2".*Schedule.none'):
        Schedule.load(path, 9, trial="3")


def test_two_exploits_of_one_boundary_leave_no_empty_segment(tmp_path):
    lines = [
        ["1", "0", 2, 3, ZEROS, ONES],
        ["2", "1", 2, 3, ONES, [2] * 60],
        ["4", "2", 5, 6, [2] * 60, ONES],
    ]
    assert lengths(Schedule.load(write(tmp_path / "a.txt", lines), 6)) == [3, 3]


MODALS = json.dumps(
    [
        "7",
        "1",
        1,
        2,
        *({"use_lpba": True, "num_epochs": 60, "hp_policy": vector} for vector in ([0] * 16, [1, 2] * 8)),
    ]
)


class TestOtherSpaces:
    def test_modals_is_refused_without_its_ops(self, tmp_path):
        path = write(tmp_path / "policy_sst2.txt", [MODALS])
        with pytest.raises(
            InputError, match=r"policy_sst2.txt, line 1: .* of MODALS \(use_lpba\).*`ops=\[names\]`"
        ):
            Schedule.load(path)

    def test_stated_ops(self, tmp_path):
        ops = ["Invert", "Rotate", "Identity", "Color"]
        schedule = Schedule.load(write(tmp_path / "a.txt", [MODALS]), ops=ops)
        assert lengths(schedule) == [2, 58]
        assert schedule.provenance["ops"] == ops
        assert schedule[2].settings == tuple(
            (name, 1, 2) for name in ("Rotate", "Color", "Invert", "Identity") * 2
        )
        with pytest.raises(InputError, match="has a vector"):
            schedule[2].to_vector()

    def test_another_order_of_the_published_ops(self, tmp_path):
        order = sorted(list(OPS)[:15])
        vector = np.random.default_rng(0).integers(0, 10, 60).tolist()
        path = write(tmp_path / "a.txt", [["1", "0", 2, 3, ZEROS, vector]])
        moved, straight = Schedule.load(path, 9, ops=order)[5], Schedule.load(path, 9)[5]
        assert moved != straight
        assert set(moved.settings) == {(order[k % 15], vector[2 * k], vector[2 * k + 1]) for k in range(30)}
        rotate = order.index("Rotate")
        assert moved.to_vector()[:2] == vector[2 * rotate : 2 * rotate + 2]

    def test_wrong_names(self, tmp_path):
        path = write(tmp_path / "a.txt", [MODALS])
        with pytest.raises(InputError, match='Unknown op "Rotat".*Did you mean "Rotate"'):
            Schedule.load(path, ops=["Rotat", "Color"])
        with pytest.raises(InputError, match="`ops` must name each op once"):
            Schedule.load(path, ops=["Color", "Color"])

    def test_another_length(self, tmp_path):
        path = write(tmp_path / "a.txt", [["1", "0", 2, 3, [0] * 16, [0] * 16]])
        with pytest.raises(
            InputError, match=r"line 1: old policy: `vector` must hold 60 .* got 16.*`ops=\[names\]`"
        ):
            Schedule.load(path, 9)


class TestBareVectors:
    def test_one_policy(self, tmp_path):
        (tmp_path / "a.json").write_text(json.dumps(ONES))
        schedule = Schedule.load(tmp_path / "a.json", 12)
        assert lengths(schedule) == [12]
        assert schedule[3].to_vector() == ONES
        with pytest.raises(InputError, match="`epochs` must be given"):
            Schedule.load(tmp_path / "a.json")

    def test_one_per_epoch(self, tmp_path):
        (tmp_path / "a.json").write_text(json.dumps([ZEROS, ZEROS, ONES]))
        assert lengths(Schedule.load(tmp_path / "a.json")) == [2, 1]
        with pytest.raises(InputError, match="3 epochs long, but `epochs` is 4"):
            Schedule.load(tmp_path / "a.json", 4)
        (tmp_path / "a.json").write_text(json.dumps([ZEROS, [11, *ZEROS[1:]]]))
        with pytest.raises(InputError, match="a.json, vector 1: `probability`"):
            Schedule.load(tmp_path / "a.json")


def test_writing_pba(tmp_path):
    for seed, segments in enumerate(([(5, ZEROS), (3, ONES), (2, ZEROS)], [(7, ONES)])):
        schedule = Schedule([(epochs, Policy.from_vector(vector)) for epochs, vector in segments])
        path = tmp_path / f"{seed}.txt"
        schedule.save(path, form="pba")
        assert Schedule.load(path, len(schedule)).segments == schedule.segments


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("['1', '0', 2, 3, [0]", "line 2: neither JSON nor a Python literal"),
        (
            "__import__('os').system('true')",
            r"line 2: neither JSON nor a Python literal \(malformed[^<>]*\)\.",
        ),
        ("[" * 5000 + "]" * 5000, "line 2: neither JSON nor a Python literal"),
        ("[1, 2, 3]", "line 2: an exploit has six elements .* got 3 elements"),
        ("7", "line 2: an exploit has six elements .* got int"),
        (
            repr([None, "0", 2, 3, ZEROS, ONES]),
            "line 2: the target trial must be a string or an integer, got None",
        ),
        (repr(["1", "0", 2, -3, ZEROS, ONES]), "line 2: the copied checkpoint's epochs must be .* got -3"),
        (repr(["1", "0", 2, 3.5, ZEROS, ONES]), "line 2: the copied checkpoint's epochs must be .* got 3.5"),
        (
            repr(["1", "0", 2, 3, ZEROS, [11, *ONES[1:]]]),
            "line 2: new policy: `probability` must be .* got 11",
        ),
        (repr(["1", "0", 2, 3, {"lr": 1}, ONES]), "line 2: the old configuration has no `hp_policy`"),
        (
            repr(["1", "0", 2, 3, 5, ONES]),
            "line 2: old policy: `vector` must be a sequence of integers, got int",
        ),
        (json.dumps(["1", "0", 2, 3, [float("nan")] * 60, ONES]), "line 2: old policy: .* got nan"),
        (repr(["1", "0", 2, 3, ZEROS, {"hp_policy": ONES, "num_epochs": 0}]), "line 2: `num_epochs` must be"),
    ],
)
def test_broken_lines(tmp_path, line, words):
    path = write(tmp_path / "a.txt", [["2", "1", 0, 1, ZEROS, ONES], line])
    with pytest.raises(InputError, match=f"a.txt, {words}"):
        Schedule.load(path, 9)


def test_all_faults_are_text_at_once(tmp_path):
    path = write(tmp_path / "a.txt", ["x", *["[1]"] * 30])
    with pytest.raises(InputError, match=r"(?s)line 1: .*line 2: .*line 20: .*and 11 more\.$") as caught:
        Schedule.load(path, 9)
    assert "line 21" not in str(caught.value)


def test_epochs_that_go_back(tmp_path):
    lines = [["1", "0", 2, 6, ZEROS, ONES], ["2", "1", 2, 3, ZEROS, ONES]]
    with pytest.raises(InputError, match="a.txt, line 2: .* copied at epoch 6, but this one was copied at 3"):
        Schedule.load(write(tmp_path / "a.txt", lines), 9)


def test_lengths_that_differ(tmp_path):
    configs = [{"hp_policy": ZEROS, "num_epochs": n} for n in (9, 10)]
    lines = [["1", "0", 2, 3, configs[0], configs[0]], ["2", "1", 5, 6, configs[0], configs[1]]]
    with pytest.raises(InputError, match=r"`num_epochs` differs between the lines: \[9, 10\]"):
        Schedule.load(write(tmp_path / "a.txt", lines))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 2000), st.integers(0, 60))
def test_damaged_logs_are_read_or_refused(tmp_path_factory, junk, position, cut):
    content = "\n".join(search(1, trials=4, epochs=9, python=True).single.popitem()[1]).encode()
    position %= len(content)
    path = tmp_path_factory.mktemp("logs") / "a.txt"
    path.write_bytes(content[:position] + junk + content[position + cut :])
    try:
        schedule = Schedule.load(path, 9)
    except InputError as error:
        text = str(error)
    else:
        text = f"a.txt: {len(schedule)} epochs"
    assert "a.txt" in text
