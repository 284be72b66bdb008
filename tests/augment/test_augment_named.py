"""Schedules by one word: the table, its use by name or file, and files that hold such policies."""

import pytest

from rolewise.augment import NAMED, AutoAugment, Policy, RandAugment, Schedule, TrivialAugment, find_schedule
from rolewise.errors import InputError


def test_the_words_that_users_know():
    assert {"none", "random", "autoaugment", "randaugment", "trivialaugment", "trivialaugment-wide"} <= set(
        NAMED
    )
    assert Schedule.named("autoaugment", 3).segments == ((3, AutoAugment("standard")),)
    assert Schedule.named("randaugment", 3).segments == ((3, RandAugment(2, 9, "mirrored")),)
    assert Schedule.named("trivialaugment", 3).segments == ((3, TrivialAugment("mirrored-wide")),)
    assert Schedule.named("none", 4) == Schedule.none(4)
    assert Schedule.named("random", 9, seed=2) == Schedule.random(9, 2) != Schedule.random(9, 3)
    assert Schedule.named("autoaugment", 3).provenance == {"source": "autoaugment"}


@pytest.mark.parametrize("name", NAMED)
def test_each_has_its_length_and_survives_a_file(name, tmp_path):
    schedule = Schedule.named(name, 7)
    assert len(schedule) == 7
    schedule.save(tmp_path / "s.json")
    assert Schedule.load(tmp_path / "s.json") == schedule


def test_default_policies_are_written_as_before_there_were_spaces(tmp_path):
    assert TrivialAugment().to_json() == {"kind": "trivialaugment"}
    assert RandAugment().to_json() == {"kind": "randaugment", "num_ops": 2, "magnitude": 9}
    assert RandAugment(space="wide").to_json() == {
        "kind": "randaugment", "num_ops": 2, "magnitude": 9, "space": "wide",
    }  # fmt: skip


def test_unknown_names():
    with pytest.raises(InputError, match='Unknown schedule "trivialaugmnt".*Did you mean "trivialaugment"'):
        Schedule.named("trivialaugmnt", 3)
    with pytest.raises(
        InputError,
        match='There is no file autoagument. Unknown schedule "autoagument".*Did you mean "autoaugment"',
    ):
        find_schedule("autoagument", 3)
    with pytest.raises(InputError, match="`epochs` must be given for the schedule autoaugment"):
        find_schedule("autoaugment")


def test_names_before_files_unless_a_path_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = Schedule([(2, Policy.none()), (2, RandAugment(1, 4))])
    mine.save("randaugment")
    assert find_schedule("randaugment", 4) == Schedule.named("randaugment", 4)
    assert find_schedule("./randaugment") == mine
    assert find_schedule(tmp_path / "randaugment", 8) == mine.stretch(8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"kind": "trivialaugment", "space": "wied"', r'line 6: .*space: Unknown level space "wied"'),
        ('"kind": "autoaugment", "space": "wide"', r'line 6: .*`space` of AutoAugment must be "standard" or'),
        ('"kind": "autoaugment", "space": 3', r"line 6: .*space"),
    ],
)  # fmt: skip
def test_bad_spaces_in_files(tmp_path, text, message):
    path = tmp_path / "bad.json"
    Schedule.named("trivialaugment", 2).save(path)
    path.write_text(path.read_text().replace('"kind": "trivialaugment"', text))
    with pytest.raises(InputError, match=message):
        Schedule.load(path)
