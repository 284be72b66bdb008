"""Schedules: epochs, segments, lengths, controls; and their JSON files."""

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rolewise.augment.format as form
from rolewise.augment import OPS, Policy, RandAugment, Schedule, TrivialAugment
from rolewise.errors import InputError, InputTypeError

ONES, TWOS = Policy.from_vector([1] * 60), Policy.from_vector([2] * 60)
PUBLISHED = [57, 3, 72, 39, 29]  # the released two-bit schedule


def policy(number: int) -> Policy:
    return Policy.from_vector([number, 1] * 30)


def published() -> Schedule:
    return Schedule([(epochs, policy(number)) for number, epochs in enumerate(PUBLISHED)])


def lengths(schedule: Schedule) -> list[int]:
    return [epochs for epochs, _ in schedule.segments]


class TestEpochs:
    def test_each_epoch_has_its_policy(self):
        schedule = published()
        assert len(schedule) == 200
        assert [schedule[epoch] for epoch in (0, 56, 57, 59, 60, 131, 132, 171, 199)] == [
            policy(k) for k in (0, 0, 1, 1, 2, 2, 3, 4, 4)
        ]
        assert list(schedule) == [policy(k) for k, epochs in enumerate(PUBLISHED) for _ in range(epochs)]
        assert schedule[np.int64(57)] == policy(1)
        assert schedule[56:58] == [policy(0), policy(1)]

    @pytest.mark.parametrize("epoch", [200, -1, 10**30])
    def test_an_epoch_outside(self, epoch):
        with pytest.raises(InputError, match=rf"`epoch` must be .* from 0 to 199, got {epoch}: .*\.stretch"):
            published()[epoch]

    @pytest.mark.parametrize("epoch", [1.0, "1", None, True])
    def test_an_epoch_that_is_no_integer(self, epoch):
        with pytest.raises(InputTypeError, match="`epoch` must be an integer"):
            published()[epoch]

    def test_equality(self):
        assert Schedule([(2, ONES), (1, ONES)]) == Schedule([(3, ONES)], provenance={"file": "a"})
        assert hash(Schedule([(2, ONES), (1, ONES)])) == hash(Schedule([(3, ONES)]))
        assert Schedule([(3, ONES)]) != Schedule([(3, ONES)], role="teacher")
        assert Schedule([(3, ONES)]) != Schedule([(3, TWOS)])
        assert Schedule([(3, ONES)]) != "other"
        copied = pickle.loads(pickle.dumps(published()))
        assert copied == published()
        assert repr(copied) == "Schedule(200 epochs in segments of 57, 3, 72, 39, 29)"

    @pytest.mark.parametrize(
        ("make", "kind", "words"),
        [
            (lambda: Schedule([]), InputError, "at least one segment"),
            (lambda: Schedule([(0, ONES)]), InputError, r"`segments\[0\] epochs` must be .* got 0"),
            (lambda: Schedule([(99_999, ONES), (2, ONES)]), InputError, "at most 100000 epochs long, got 100001"),
            (lambda: Schedule([(1.5, ONES)]), InputTypeError, "must be an integer"),
            (lambda: Schedule([(1, [0] * 60)]), InputTypeError, r"`segments\[0\]` must hold a policy, got list"),
            (lambda: Schedule([(1, ONES)], role="pupil"), InputError, '`role` must be "teacher", "student" or None'),
            (lambda: published().stretch(0), InputError, "`epochs` must be an integer at least 1, got 0"),
            (lambda: Schedule.none(0), InputError, "`epochs` must be an integer"),
        ],
    )  # fmt: skip
    def test_bad_input(self, make, kind, words):
        with pytest.raises(kind, match=words):
            make()


class TestStretch:
    @pytest.mark.parametrize(
        ("epochs", "expected"),
        [
            (100, [28, 1, 36, 19, 14 + 2]),
            (300, [85, 4, 108, 58, 43 + 2]),
            (20, [5, 7, 3, 2 + 3]),  # the second segment rounds to nothing
            (1800, [9 * length for length in PUBLISHED]),
            (200, PUBLISHED),
        ],
    )
    def test_published_examples(self, epochs, expected):
        schedule = published().stretch(epochs)
        assert lengths(schedule) == expected
        assert len(schedule) == epochs
        assert schedule[epochs - 1] == policy(4)
        assert schedule.provenance["stretched"] == [[200, epochs]]

    @given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 500))
    def test_any_length(self, epochs, wanted):
        schedule = Schedule([(length, policy(k)) for k, length in enumerate(epochs)]).stretch(wanted)
        assert len(schedule) == wanted
        assert schedule[wanted - 1] == policy(len(epochs) - 1)
        kept = Counter({segment: length for length, segment in schedule.segments})
        for k, length in enumerate(epochs[:-1]):
            assert kept[policy(k)] == length * wanted // sum(epochs)


class TestControls:
    def test_none_and_constant(self):
        assert list(Schedule.none(4)) == [Policy.from_vector([0] * 60)] * 4
        assert lengths(Schedule.constant(RandAugment(), 5)) == [5]

    def test_random(self):
        schedule = Schedule.random(200, seed=1)
        assert lengths(schedule) == [3] * 66 + [2]
        assert schedule == Schedule.random(200, 1, interval=3)
        assert schedule != Schedule.random(200, 2)
        assert lengths(Schedule.random(10, 0, interval=4)) == [4, 4, 2]
        vectors = np.array([p.to_vector() for _, p in Schedule.random(3000, 5, interval=1).segments])
        for column, highest in ((vectors[:, 0::2], 10), (vectors[:, 1::2], 9)):
            counts = np.bincount(column.ravel(), minlength=highest + 1)
            assert len(counts) == highest + 1
            expected = column.size / (highest + 1)
            assert ((counts - expected) ** 2 / expected).sum() < 32  # chi-square, 9 or 10 degrees, p < 0.001
        assert np.abs(np.corrcoef(vectors.T) - np.eye(60)).max() < 0.1

    def test_shuffled(self):
        schedule = Schedule(published().segments, role="student", provenance={"file": "a"})
        shuffled = schedule.shuffled(3)
        assert Counter(shuffled) == Counter(schedule)
        assert shuffled != schedule
        assert shuffled == schedule.shuffled(3)
        assert shuffled != schedule.shuffled(4)
        assert shuffled.role == "student"
        assert shuffled.provenance == {"file": "a", "shuffled": 3}


SLOTS = st.lists(st.tuples(st.sampled_from(list(OPS)), st.integers(0, 10), st.integers(0, 9)), max_size=40)
POLICIES = st.one_of(
    st.tuples(st.just(Policy), st.tuples(SLOTS)),
    st.tuples(st.just(RandAugment), st.tuples(st.integers(0, 5), st.integers(0, 30))),
    st.tuples(st.just(TrivialAugment), st.just(())),
)


class TestFiles:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(1, 300), POLICIES), min_size=1, max_size=5),
        st.sampled_from([None, "teacher", "student"]),
        st.dictionaries(
            st.text(max_size=5),
            st.one_of(st.integers(), st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        ),
    )
    def test_round_trip(self, tmp_path_factory, segments, role, provenance):
        path = tmp_path_factory.mktemp("schedules") / "a.json"
        built = [(epochs, kind(*arguments)) for epochs, (kind, arguments) in segments]
        schedule = Schedule(built, role=role, provenance=provenance)
        schedule.save(path)
        loaded = Schedule.load(path)
        assert loaded == schedule
        assert loaded.segments == schedule.segments
        assert loaded.provenance == provenance
        before = path.read_bytes()
        loaded.save(path)
        assert path.read_bytes() == before

    def test_the_bytes_are_canonical(self, tmp_path):
        slots = [("Rotate", 3, 2), ("Color", 1, 0)]
        schedule = Schedule(
            [(2, Policy(slots)), (1, RandAugment()), (4, Policy(slots[::-1]))],
            role="teacher",
            provenance={"run": "a", "data": {"name": "cifar10", "images": 4000}, "score": 0.75},
        )
        schedule.save(tmp_path / "a.json")
        assert (tmp_path / "a.json").read_text() == (
            "{\n"
            ' "epochs": 7,\n'
            ' "format": "rolewise.schedule",\n'
            ' "format_version": 1,\n'
            ' "policies": [\n'
            '  {"kind": "pba", "settings": [["Rotate", 3, 2], ["Color", 1, 0]]},\n'
            '  {"kind": "randaugment", "magnitude": 9, "num_ops": 2}\n'
            " ],\n"
            ' "provenance": {"data": {"images": 4000, "name": "cifar10"}, "run": "a", "score": 0.75},\n'
            ' "role": "teacher",\n'
            ' "segments": [\n'
            '  {"epochs": 2, "policy": 0},\n'
            '  {"epochs": 1, "policy": 1},\n'
            '  {"epochs": 4, "policy": 0}\n'
            " ]\n"
            "}\n"
        )

    def test_the_schema_in_the_package_is_that_of_the_reader(self):
        shipped = Path(form.__file__).with_name("schedule.schema.json")
        assert json.loads(shipped.read_text()) == form.json_schema()

    def test_another_length_than_stated(self, tmp_path):
        published().save(tmp_path / "a.json")
        assert Schedule.load(tmp_path / "a.json", 200) == published()
        with pytest.raises(
            InputError, match=r"a.json is 200 epochs long, but `epochs` is 300: .*\.stretch\(300\)"
        ):
            Schedule.load(tmp_path / "a.json", 300)
        with pytest.raises(InputError, match="`ops` and `trial` are for logs"):
            Schedule.load(tmp_path / "a.json", trial="1")

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ('"Rotate", 3', '"Rotat", 3', r'line 6: policies\[0\].settings\[0\]\[0\]: Unknown op "Rotat".* "Rotate"'),
            ('"Color", 1, 0', '"Color", 11, 0', r"line 6: policies\[0\].settings\[1\]\[1\]: .*equal to 10, got 11"),
            ('"Color", 1, 0', '"Color", 1, NaN', "line 6: NaN is no JSON value"),
            ('"Color", 1, 0', '"Color", 1, 0.5', r"line 6: policies\[0\].settings\[1\]\[2\]: .*integer, got 0.5"),
            ('"Color", 1, 0', '"Color", 1, "0"', "line 6: .*integer, got '0'"),
            ('"Color", 1, 0', '"Color", 1', r"line 6: policies\[0\].settings\[1\]\[2\]: missing"),
            ('"epochs": 2, ', '"epochs": 0, ', r"line 12: segments\[0\].epochs: .*greater than or equal to 1, got 0"),
            ('"epochs": 2, ', '"epochs": 3, ', "line 2: epochs is 7, but the segments are 8 epochs long"),
            ('"epochs": 2, ', '"epochs": 2, "epoch": 2, ', r"line 12: segments\[0\].epoch: unknown"),
            ('"epochs": 2, ', '"epochs": 2, "epochs": 2, ', 'line 12: the key "epochs" comes twice'),
            ('"policy": 1', '"policy": 7', r"line 13: segments\[1\]: there is no policies\[7\]"),
            ('"randaugment"', '"ranaugment"', r"line 7: policies\[1\]: .*'ranaugment'.*'randaugment'"),
            ('"rolewise.schedule"', '"other"', "line 3: format: .*'rolewise.schedule', got 'other'"),
            ('"format_version": 1', '"format_version": 2', "format_version 2; .* reads up to 1: upgrade it"),
            ('"teacher"', '"pupil"', "line 10: role: .*'teacher' or 'student', got 'pupil'"),
            ('"epochs": 7', '"epochs": 7' * 2, r"line 2: not JSON: Expecting ',' delimiter"),
            ('"epochs": 7', '"epochs": ' + "7" * 5000, "line 2: Exceeds the limit"),
            ('"run": "a"', '"run": ' + "[" * 100_000 + "]" * 100_000, "a.json: nested too deeply"),
            ('"segments"', '"segment"', "(?s)segments: missing.*segment: unknown"),
        ],
    )  # fmt: skip
    def test_broken_files(self, tmp_path, old, new, words):
        self.test_the_bytes_are_canonical(tmp_path)
        text = (tmp_path / "a.json").read_text()
        assert old in text
        (tmp_path / "a.json").write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match=words) as caught:
            Schedule.load(tmp_path / "a.json")
        assert "a.json" in str(caught.value)

    def test_files_that_are_no_schedules(self, tmp_path):
        path = tmp_path / "a.json"
        for content, words in (
            (b"", "holds no exploit"),
            (b"\n\n", "holds no exploit"),
            (b"\xff\xfe\x00", "not a text file .byte 0"),
            (b"x" * ((1 << 20) + 1), "too large for a schedule: 1048577 bytes, at most 1048576"),
            (b"{}", "(?s)line 1: format: missing.*format_version.*epochs"),
            (
                b'{"format": "rolewise.run", "config": {}}',
                "^a.json, line 1: format: .* this is not a schedule.$",
            ),
            (b"# A page\n\nof text\n", "^a.json is not a schedule: .*whose lines are lists.$"),
            (b"null", "line 1: an exploit has six elements"),
        ):
            path.write_bytes(content)
            with pytest.raises(InputError, match=words):
                Schedule.load(path, 9)
        with pytest.raises(InputError, match="none.json cannot be read: No such file"):
            Schedule.load(tmp_path / "none.json")
        with pytest.raises(InputError, match="cannot be read: Is a directory"):
            Schedule.load(tmp_path)
        with pytest.raises(InputError, match="`epochs` must be an integer at least 1, got 0"):
            Schedule.load(path, 0)

    def test_what_cannot_be_written(self, tmp_path):
        with pytest.raises(InputError, match="cannot be written to .*No such file"):
            published().save(tmp_path / "none" / "a.json")
        with pytest.raises(InputTypeError, match="`provenance` must hold JSON values alone"):
            Schedule([(1, ONES)], provenance={"x": float("nan")}).save(tmp_path / "a.json")
        with pytest.raises(InputTypeError, match="`provenance` must hold JSON values alone"):
            Schedule([(1, ONES)], provenance={"x": object()}).save(tmp_path / "a.json")
        with pytest.raises(InputError, match="RandAugment has no vector"):
            Schedule.constant(RandAugment(), 2).save(tmp_path / "a.txt", form="pba")
        with pytest.raises(InputError, match='`form` must be "rolewise" or "pba"'):
            published().save(tmp_path / "a.txt", form="pbt")
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(InputError, match="cannot be written to .*Not a directory"):
            published().save(tmp_path / "file" / "a.json")

    def test_a_file_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        there = []
        monkeypatch.setattr("os.fsync", lambda _: there.append((tmp_path / "a.json").exists()))
        published().save(tmp_path / "a.json")
        assert there == [False]
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            published().save(tmp_path / "b.json")
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=20), st.integers(0, 10_000), st.integers(0, 30))
    def test_damaged_files_are_read_or_refused(self, tmp_path_factory, junk, position, cut):
        path = tmp_path_factory.mktemp("schedules") / "a.json"
        published().save(path)
        content = path.read_bytes()
        position %= len(content)
        path.write_bytes(content[:position] + junk + content[position + cut :])
        try:
            text = f"a.json: {len(Schedule.load(path))} epochs"
        except InputError as error:
            text = str(error)
        assert "a.json" in text
