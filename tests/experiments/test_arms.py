"""Arms: each word's schedule, of the training's length, the same for the same seed."""

from dataclasses import replace

import pytest

from rolewise.augment import AutoAugment, Policy, RandAugment, Schedule, TrivialAugment
from rolewise.errors import InputError
from rolewise.experiments.arms import ARMS, find_arm
from rolewise.experiments.plan import select, training
from rolewise.experiments.recipes import Options

SEARCHED = Schedule([(n, Policy.from_vector([n, 3] * 30)) for n in (2, 3, 5)])
MADE = [word for word, arm in ARMS.items() if arm.make is not None]


def test_every_control_of_the_issue_has_its_word():
    assert set(ARMS) >= {
        "none", "a_t", "a_s", "a_t-other", "a_s-other", "constant", "random", "shuffled", "randaugment",
        "trivialaugment", "trivialaugment-wide", "autoaugment", "pba-published", "cutmix", "mixup",
    }  # fmt: skip
    assert all(word == arm.word for word, arm in ARMS.items())


@pytest.mark.parametrize("word", MADE)
def test_a_made_schedule_has_the_length_and_depends_on_the_seed_alone(word):
    make = ARMS[word].make
    assert make is not None
    one, again, other = (make(20, seed, SEARCHED) for seed in (1, 1, 2))
    assert len(one) == len(other) == 20
    assert list(one) == list(again)
    fixed = word.startswith(("randaugment", "trivialaugment", "autoaugment", "final"))
    assert (list(one) == list(other)) == fixed


def test_shuffled_has_the_same_policies_in_another_order():
    found = ARMS["shuffled"].make(20, 0, SEARCHED)
    vectors = [policy.to_vector() for policy in SEARCHED.stretch(20)]
    assert sorted(policy.to_vector() for policy in found) == sorted(vectors)
    assert [policy.to_vector() for policy in found] != vectors


def test_final_is_the_last_policy_throughout():
    found = ARMS["final"].make(7, 0, SEARCHED)
    assert {tuple(policy.to_vector()) for policy in found} == {tuple(SEARCHED[9].to_vector())}


def test_published_policies():
    assert ARMS["randaugment"].make(3, 0, None)[2] == RandAugment(2, 9)
    assert ARMS["trivialaugment-wide"].make(3, 0, None)[2] == TrivialAugment("mirrored-wide")
    assert ARMS["trivialaugment"].make(3, 0, None)[2] == TrivialAugment("standard")
    assert ARMS["autoaugment"].make(3, 0, None)[2] == AutoAugment()


def test_a_searched_schedule_is_needed_where_one_is_changed():
    with pytest.raises(InputError, match="changes a searched schedule, and none was given"):
        ARMS["shuffled"].make(20, 0, None)


def test_cutmix_and_mixup_are_settings_of_the_training():
    student = select(["study"], ["w4a4/soft/none"])[0].setup
    for word in ("cutmix", "mixup"):
        train = training(student.under(word), 0).config(Options()).student.train
        assert getattr(train, word) == 1.0
        plain = training(student, 0).config(Options()).student.train
        assert replace(train, **{word: None}) == plain


def test_unknown_words_are_answered_with_the_nearest():
    with pytest.raises(InputError, match=r'Unknown arm "trivialagument".*Did you mean "trivialaugment"'):
        find_arm("trivialagument")
