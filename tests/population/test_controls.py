"""Controls that bear the name of a published policy: the word means the same level space as it does as a schedule."""

import pytest

import rolewise as rw
from rolewise import networks
from rolewise.augment import NAMED, PUBLISHED, RandAugment, Schedule
from rolewise.augment.spaces import NAMES
from rolewise.errors import InputError
from rolewise.population import METHODS
from rolewise.population.methods import make_strategy, named_methods
from rolewise.settings import SearchSettings

FAMILIES = ("autoaugment", "randaugment", "trivialaugment")
# Strengths at the last of the 31 levels on images of 32 x 32, from the publications: torchvision's tables
# (`_augmentation_space` of RandAugment and of TrivialAugmentWide) and `aug_lib.py` of TrivialAugment. Enhancers of
# torchvision are distances from 1, the others factors.
LAST_LEVEL = {
    "mirrored": {"ShearX": 0.3, "TranslateY": 14, "Rotate": 30, "Contrast": 0.9, "Posterize": 4, "Solarize": 0},
    "mirrored-wide": {"ShearX": 0.99, "TranslateY": 32, "Rotate": 135, "Contrast": 0.99, "Posterize": 2, "Solarize": 0},
    "standard": {"ShearX": 0.3, "TranslateY": 10, "Rotate": 30, "Contrast": 1.9, "Posterize": 0, "Solarize": 0},
    "fixed": {"ShearX": 0.3, "TranslateY": 10, "Rotate": 30, "Contrast": 1.9, "Posterize": 4, "Solarize": 0},
    "wide": {"ShearX": 0.99, "TranslateY": 32, "Rotate": 135, "Contrast": 2.0, "Posterize": 2, "Solarize": 0},
}  # fmt: skip
USUAL = {"randaugment": "mirrored", "trivialaugment": "mirrored-wide"}
# The points of the grid for four members; tests/population/test_loop.py holds its form for all sizes.
GRID = [(1, 8), (1, 15), (1, 22), (1, 30)]


def beginnings(word):
    return make_strategy(SearchSettings(population=4, epochs=2, interval=1, method=word)).beginnings(
        0, "teacher"
    )


def test_every_word_of_these_families_is_a_schedule_and_a_control():
    words = {name for name in NAMED if name.partition("-")[0] in FAMILIES}
    spaced = {f"{family}-{space}" for family in ("randaugment", "trivialaugment") for space in LAST_LEVEL}
    assert words == {*FAMILIES, "autoaugment-standard", "autoaugment-mirrored", *spaced} == set(PUBLISHED)
    assert words <= set(named_methods())
    assert set(METHODS) - set(named_methods()) == {"given"}


@pytest.mark.parametrize("word", PUBLISHED)
def test_members_follow_what_the_word_means_as_a_schedule(word):
    found, schedule = beginnings(word), Schedule.named(word, 2)
    if word.startswith("randaugment"):
        space = word.partition("-")[2] or USUAL[word]
        assert found == [Schedule.constant(RandAugment(*point, space), 2) for point in GRID]
        assert {one[0].space for one in found} == {schedule[0].space}
    else:
        assert found == [schedule] * 4


@pytest.mark.parametrize("word", [word for word in PUBLISHED if not word.startswith("autoaugment")])
def test_levels_are_the_published_ones(word):
    family, _, space = word.partition("-")
    strongest = beginnings(word)[-1][1]  # RandAugment's last point is at the last level
    slots = dict(zip(NAMES, strongest.slots(32, 32)[-len(NAMES) :], strict=True))
    expected = LAST_LEVEL[space or USUAL[family]]
    assert {name: slots[name][1] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("word", PUBLISHED)
def test_a_search_with_each(word):
    result = rw.search(
        networks.build("cnn-tiny", num_classes=10),
        rw.load_data("digits"),
        method=word,
        population=4,
        epochs=1,
        interval=1,
        train_images=40,
        validation_images=40,
        batch_size=20,
        precision="fp32",
        workers=1,
        details=True,
    )
    named = Schedule.named(word, 1)
    if word.startswith("randaugment"):
        named = Schedule.constant(RandAugment(*GRID[result.best], named[0].space), 1)
    assert result.schedule.segments == named.segments
    assert result.schedule.provenance["method"] == word


def test_a_name_that_is_near():
    known = ", ".join(f'"{name}"' for name in named_methods())
    with pytest.raises(InputError, match='Did you mean "randaugment-fixed"') as caught:
        make_strategy(SearchSettings(method="randaugment-fixd"))
    assert f"Known: {known}." in str(caught.value)
    assert '"given"' not in str(caught.value)
