"""Settings: one definition, the same rules in Python, in a file and as single arguments."""

import dataclasses
import subprocess
import sys
from typing import get_type_hints

import numpy as np
import pytest

from rolewise.config import Config, MachineSettings, TeacherConfig, load_config
from rolewise.errors import InputError, InputTypeError
from rolewise.settings import STUDENT, ComputeSettings, TrainOptions, TrainRecipe, check_names, field_names
from rolewise.trainer import TrainSettings, student_settings, teacher_settings, train


def test_a_training_is_described_once():
    """Each field has one definition, and whoever needs it inherits or nests that."""
    recipe, compute = set(field_names(TrainRecipe)), set(field_names(ComputeSettings))
    assert not recipe & compute
    assert set(field_names(TrainSettings)) == recipe | compute | {"threads"}
    assert issubclass(TrainSettings, TrainRecipe)
    assert issubclass(TrainSettings, ComputeSettings)
    assert issubclass(MachineSettings, ComputeSettings)
    assert get_type_hints(TeacherConfig)["train"] is TrainRecipe


def test_single_arguments_are_typed_as_the_settings_are():
    wanted, found = get_type_hints(TrainSettings), get_type_hints(TrainOptions)
    assert found == {name: wanted[name] for name in field_names(TrainSettings) if name != "epochs"}


def test_defaults_of_the_roles_are_the_papers():
    teacher, student = teacher_settings(200), student_settings(200)
    assert (teacher.optimizer, teacher.lr, teacher.weight_decay, teacher.decay_scope) == (
        "sgd",
        0.1,
        5e-4,
        "all",
    )
    assert (student.optimizer, student.lr, student.weight_decay, student.decay_scope) == (
        "adam", 1e-3, 1e-5, "weights",
    )  # fmt: skip
    assert teacher.milestones == student.milestones == (0.3, 0.6, 0.9)
    config = Config()
    assert config.teacher.train == TrainRecipe()
    assert config.student.train == TrainRecipe(**STUDENT)
    assert (
        load_config(preset="demo", assignments=["student.train={epochs: 3}"]).student.train.optimizer
        == "adam"
    )


BAD = [
    ({"epochs": 0}, "`epochs` must be greater than or equal to 1, got 0"),
    ({"epochs": 2.0}, "`epochs` must be an integer, got 2.0"),
    ({"batch_size": True}, "`batch_size` must be an integer, got True"),
    ({"batch_size": "64"}, "`batch_size` must be an integer, got '64'"),
    ({"lr": "fast"}, "`lr` must be a valid number"),
    ({"lr": True}, "`lr` must be a number, got True"),
    ({"lr": float("inf")}, "`lr` must be a finite number, got inf"),
    ({"momentum": 1.0}, "`momentum` must be less than 1, got 1.0"),
    ({"random_resized_crop": 0.3}, r"`random_resized_crop` must be a list, \[A, B, ...\], got 0.3"),
    ({"optimizer": "lion"}, "`optimizer` must be 'sgd', 'adam' or 'adamw', got 'lion'"),
    (
        {"milestones": (0.6, 0.3)},
        r"`milestones` must be ascending fractions in \(0, 1\], got [\[(]0.6, 0.3[\])]",
    ),
    ({"batch_sise": 64}, 'Unknown setting .*batch_sise".*Did you mean .*batch_size"'),
]


@pytest.mark.parametrize(("values", "words"), BAD)
def test_bad_values_in_python(values, words):
    with pytest.raises(InputError, match=words):
        TrainRecipe(**values)
    with pytest.raises(InputError, match=words):
        dataclasses.replace(TrainSettings(3), **values)


@pytest.mark.parametrize(
    ("values", "words"), [one for one in BAD if "batch" not in one[0] and "epochs" not in one[0]]
)
def test_the_same_values_in_a_file(values, words):
    ((name, value),) = values.items()
    with pytest.raises(InputError, match=words.replace(f"`{name}`", f"`teacher.train.{name}`")):
        load_config(options={f"teacher.train.{name}": list(value) if isinstance(value, tuple) else value})


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("student.weight_bits=true", "`student.weight_bits` must be an integer, got True"),
        ("student.act_bits='4'", "`student.act_bits` must be an integer, got '4'"),
        ("data.size=yes", "`data.size` must be an integer, got True"),
        ("seed=1.0", r"`seed` must be an integer, got 1\.0"),
        ("kd.weight=true", "`kd.weight` must be a number, got True"),
    ],
)
def test_numbers_of_every_section_are_numbers(assignment, words):
    with pytest.raises(InputError, match=words):
        load_config(assignments=[assignment])


def test_several_faults_at_once_and_kinds_of_error():
    with pytest.raises(InputError) as caught:
        TrainRecipe(epochs=0, lr=0)
    assert len(str(caught.value).splitlines()) == 2
    assert not isinstance(caught.value, InputTypeError)
    with pytest.raises(TypeError):
        TrainRecipe(epochs=2.5)


def test_integers_of_any_kind_and_no_change_afterwards():
    recipe = TrainRecipe(np.int64(3), lr=1)
    assert type(recipe.epochs) is int
    assert recipe == TrainRecipe(3, lr=1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 4


def test_the_error_of_a_misspelled_argument_knows_all_names():
    with pytest.raises(InputError) as caught:
        check_names(["ephocs"], train, TrainSettings)
    text = str(caught.value)
    assert text.startswith('Unknown argument of train "ephocs".')
    assert text.endswith('Did you mean "epochs"?')
    for name in ("model", "augment", "resume", *field_names(TrainSettings)):
        assert text.count(f'"{name}"') == (2 if name == "epochs" else 1)
    check_names(["lr", "threads"], train, TrainSettings)


def test_settings_need_no_torch():
    code = "import sys, rolewise.config; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
