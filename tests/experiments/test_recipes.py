"""Settings of cells: the paper's numbers, the released code's where it is followed, scale, smoke."""

import pytest

from rolewise.bits import FULL
from rolewise.config import PRESETS, load_config
from rolewise.errors import InputError
from rolewise.experiments.plan import own, plan, select
from rolewise.experiments.recipes import CHOICES, Options, settings
from rolewise.experiments.tables import distilled, plain


def test_a_cell_has_the_presets_numbers():
    """The presets were written from the paper's section 5.1 before there were cells."""
    assert "paper-cifar100-resnet18-w4a4" in PRESETS
    preset = load_config(preset="paper-cifar100-resnet18-w4a4")
    cell = settings(distilled("cifar100", "resnet18", 4, "ii-kd", "a_s"), 0, Options())
    for section in ("search", "kd", "student", "teacher"):
        assert getattr(cell, section) == getattr(preset, section)
    assert cell.data == preset.data


def test_networks_without_a_teacher_start_at_random_and_learn_from_labels():
    cell = settings(plain("cifar10", "alexnet", 2, "none"), 5, Options())
    assert (cell.student.init, cell.kd.loss, cell.student.weight_bits, cell.seed) == ("random", "none", 2, 5)


@pytest.mark.parametrize(
    ("name", "key", "paper", "release"),
    [
        ("lambda", "kd.lambda_mode", "post_clip", "ignored"),
        ("decay", "kd.decay_factor", 0.5, 0.6),
        ("milestones", "student.train.milestones", (0.3, 0.6, 0.9), (0.3, 0.6, 0.8)),
        ("validation", "data.search_validation", 36000, 46000),
        ("cutout", "student.train.cutout", 0, 8),
        ("losses", "kd.variant", "recommended", "release"),
    ],
)
def test_each_difference_of_the_released_code_is_one_setting(name, key, paper, release):
    setup = distilled("cifar100", "resnet18", 4, "ii-kd", "a_s")

    def value(options):
        found = settings(setup, 0, options)
        for part in key.split("."):
            found = getattr(found, part)
        return found

    assert value(Options()) == paper
    assert value(Options(release=(name,))) == release
    assert value(Options(release=tuple(set(CHOICES) - {name}))) == paper


def test_the_released_cutout_is_larger_on_cifar10():
    setup = distilled("cifar10", "resnet18", 4, "ii-kd", "a_s")
    assert settings(setup, 0, Options(release=("cutout",))).teacher.train.cutout == 16


def test_scale_shortens_every_length_and_nothing_else():
    setup = distilled("cifar100", "resnet18", 4, "ii-kd", "a_s")
    whole, tenth = (settings(setup, 0, Options(scale=scale)).model_dump() for scale in (1, 0.1))
    lengths = {("search", "epochs"): 20, ("kd", "prepare_epochs"): 4}
    for (section, name), value in lengths.items():
        assert tenth[section][name] == value
        tenth[section][name] = whole[section][name]
    for role in ("teacher", "student"):
        assert tenth[role]["train"]["epochs"] == 20
        tenth[role]["train"]["epochs"] = 200
    assert tenth == whole
    shortest = settings(setup, 0, Options(scale=0.001))
    assert (shortest.search.epochs, shortest.search.interval, shortest.kd.prepare_epochs) == (1, 1, 1)


def test_the_strong_recipe_has_the_presets_numbers():
    preset = load_config(preset="strong-cifar100-resnet18-w4a4")
    cell = settings(distilled("cifar100", "resnet18", 4, "ii-kd", "a_s"), 0, Options(recipe="strong"))
    assert (cell.teacher.train, cell.student.train) == (preset.teacher.train, preset.student.train)
    float_preset = load_config(preset="strong-cifar100-resnet8-fp32")
    float_cell = settings(
        distilled("cifar100", "resnet18", FULL, "ii-kd", "a_s", student="resnet8"),
        0,
        Options(recipe="strong"),
    )
    assert float_cell.student.train == float_preset.student.train
    assert (cell.student.train.label_smoothing, float_cell.student.train.label_smoothing) == (0.1, 0)
    assert cell.teacher.train == float_cell.teacher.train
    for options in (Options(recipe="strong", smoke=True), Options(recipe="strong", scale=0.01)):
        short = settings(distilled("cifar100", "resnet18", 4, "ii-kd", "a_s"), 0, options)
        assert short.student.train.epochs == 2


def test_smoke_is_tiny_for_every_cell():
    for one in plan(select(["all"]), [0]):
        config = one.config(Options(smoke=True))
        assert config.data.train_images == 48
        assert config.data.test_images == 100
        assert config.teacher.train.epochs == config.student.train.epochs == 2
        assert config.search.population * config.search.epochs == 8


def test_the_study_trains_on_the_images_of_its_searches():
    work = plan(select(["study"]), [0])
    for one in work:
        data = one.config(Options()).data
        assert data.train_images == data.search_train == 1000
        assert own(one.setup) is not None


@pytest.mark.parametrize("recipe", ["paper", "strong"])
def test_settings_leave_the_recipes_alone(recipe):
    setup = distilled("cifar100", "resnet18", 4, "ii-kd", "a_s")
    before = settings(setup, 0, Options(recipe=recipe))
    settings(setup, 0, Options(recipe=recipe, smoke=True, release=tuple(CHOICES)))
    assert settings(setup, 0, Options(recipe=recipe)) == before


@pytest.mark.parametrize(("key", "section"), [("data", "data"), ("data.name.x", "name")])
def test_a_section_is_not_a_setting(key, section):
    with pytest.raises(InputError, match=f'lies below "{section}", which is not a section'):
        settings(distilled("cifar100", "resnet18", 4, "ii-kd", "a_s"), 0, Options(changes={key: 3}))


def test_bad_options():
    with pytest.raises(InputError, match=r'Unknown recipe "papr".*Did you mean "paper"'):
        Options(recipe="papr")
    with pytest.raises(InputError, match=r"`scale` must be above 0 and at most 1, got 2"):
        Options(scale=2)
    with pytest.raises(InputError, match="leave `--scale` out"):
        Options(smoke=True, scale=0.5)
    with pytest.raises(InputError, match=r'Unknown difference of the released code "lamda".*"lambda"'):
        Options(release=("lamda",))
    with pytest.raises(InputError, match=r"kd\.wieght"):
        settings(plain("cifar10", "alexnet", 2, "none"), 0, Options(changes={"kd.wieght": 1}))
