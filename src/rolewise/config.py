"""Every setting of a run: one tree, from a preset, a file and `--set`, checked as a whole before any work."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from rolewise.data import DATA_SETS
from rolewise.errors import InputError, unknown
from rolewise.own_code import is_own_code
from rolewise.settings import (
    STUDENT,
    ComputeSettings,
    Integer,
    Number,
    SearchSettings,
    Section,
    TrainRecipe,
    explain,
    field_names,
    read_settings_file,
    read_value,
    settings,
)

Baseline = Literal["teacher-plain", "student-plain", "student-scratch", "student-kd", "student-a-t"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


class DataConfig(Section):
    """What is learned."""

    name: str = Field("digits", description="`digits`, `cifar10`, `cifar100`, `folder`, or FILE.py:function")
    root: str | None = Field(None, description="folder that holds the data set")
    size: int = Field(32, ge=16, le=1024, description="side of the images of a `folder`, pixels")
    resize: int | None = Field(
        None,
        ge=16,
        le=2048,
        description="side to which images of a `folder` are scaled before a part of `size` is taken; None: `size`",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="channels of a `folder`: 3 (RGB; None), or 1 (gray)"
    )
    store: str | None = Field(
        None,
        description="place of the decoded images of a `folder`: `auto` (None: in memory, above 2 GiB in a mapped "
        "file), `always` (in a file), `never`, or a folder for the file",
    )
    arguments: dict[str, Any] | None = Field(None, description="arguments of your own code, FILE.py:function")
    search_train: int | None = Field(None, ge=2, description="training images of a search")
    search_validation: int | None = Field(None, ge=1, description="held-out training images of a search")
    train_images: int | None = Field(
        None,
        ge=2,
        description="training images of final trainings, the first of the search's shuffle; None: all",
    )
    test_images: int | None = Field(None, ge=1, description="test images, the first ones; None: all")
    held_out: int | None = Field(
        None,
        ge=1,
        description="further training images, which final trainings leave out: each epoch is scored on them, and the "
        "best epoch is reported beside the last one; None: the last one alone",
    )
    skip_bad: bool = Field(False, description="leave out files of a `folder` that are no readable image")
    fingerprint: str | None = Field(
        None, description="SHA-256 of the training images and labels; other data are refused"
    )


class TeacherConfig(Section):
    """The network that teaches."""

    network: str = Field("resnet18", description="a name of rolewise.networks.NETWORKS, or FILE.py:function")
    arguments: dict[str, Any] = Field(default_factory=dict, description="further arguments of the network")
    train: TrainRecipe = TrainRecipe()
    file: str | None = Field(None, description="a trained network's safetensors file, instead of stage alpha")
    weights: str | None = Field(
        None, description="weights of `network` from elsewhere (.pth, .safetensors), instead of stage alpha"
    )
    schedule: str | None = Field(
        None,
        description="instead of the searched A_T: a schedule's file, a name such as `trivialaugment`, or `none`",
    )
    search_data: str | None = Field(
        None, description="data set of its search, where another than `data.name`"
    )


class StudentConfig(Section):
    """The network that learns from it."""

    network: str | None = Field(
        None, description="a name of rolewise.networks.NETWORKS, or FILE.py:function; None: the teacher's"
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="further arguments of the network")
    weight_bits: int = Field(4, description="bits of weights, 1 to 8, or 32 for full precision")
    act_bits: int = Field(4, description="bits of activations, 1 to 8, or 32 for full precision")
    first_last_bits: int = Field(
        32, description="bits of the first and the last layer's weights, 8 being usual; 32: they stay float"
    )
    quantizer: str = Field("dorefa", description="`dorefa`, `lsq` or `pact`")
    init: Literal["teacher", "random"] = Field(
        "teacher", description="initial weights: those of the teacher that fit, or random ones"
    )
    train: TrainRecipe = TrainRecipe(**STUDENT)
    schedule: str | None = Field(
        None,
        description="instead of the searched A_S: a schedule's file, a name such as `trivialaugment`, or `none`",
    )

    @field_validator("train", mode="before")
    @classmethod
    def _students_defaults(cls, value: Any) -> Any:
        """A partial section keeps the student's own defaults."""
        return {**STUDENT, **value} if isinstance(value, Mapping) else value

    @field_validator("weight_bits", "act_bits", "first_last_bits")
    @classmethod
    def _bits(cls, bits: int) -> int:
        if not (1 <= bits <= 8 or bits == 32):
            raise PydanticCustomError("bits", "bits must be 1 to 8, or 32 for full precision")
        return bits


@settings
class SearchConfig(SearchSettings):
    """The search, and what of it only a run knows."""

    batch_size: Integer | None = Field(
        default=None, ge=2, description="images a step; none takes that of the role's training"
    )
    warm_start: str | None = Field(
        default=None, description="file of a schedule that members begin with; in stage beta also `A_T`"
    )
    train: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of the members' training where they differ from those of the role's final training, such "
        "as {cutmix: null}",
    )

    @field_validator("train")
    @classmethod
    def _of_a_training(cls, train: dict[str, Any]) -> dict[str, Any]:
        for name in ("epochs", "batch_size"):
            if name in train:
                raise PydanticCustomError("train", f"must not hold `{name}`, which is `search.{name}`")
        try:
            TrainRecipe(**train)
        except InputError as error:
            raise PydanticCustomError(
                "train", "{reason}", {"reason": f"must hold settings of a training. {error}"}
            ) from None
        return train


class KDConfig(Section):
    """What the student compares with its teacher."""

    loss: str = Field("ii-kd", description="a name of rolewise.kd.LOSSES, FILE.py:Class, or `none`")
    arguments: dict[str, Any] = Field(default_factory=dict, description="further arguments of the loss")
    variant: Literal["recommended", "paper", "release"] = Field(
        "recommended",
        description="the loss as recommended, as in its paper, or as in the role-wise authors' code",
    )
    weight: float | None = Field(
        None, ge=0, le=1e6, description="lambda, factor of the distillation loss; none: the loss's own"
    )
    task_weight: float | None = Field(
        None, ge=0, le=1e6, description="factor of cross-entropy; none: the loss's own, mostly 1"
    )
    decay: bool | None = Field(
        None, description="multiply lambda by `decay_factor` at each milestone; none: as the loss does"
    )
    clip: bool | None = Field(
        None, description="clip the loss's gradient against the task's; none: as the loss does"
    )
    lambda_mode: Literal["post_clip", "pre_clip", "ignored"] = Field(
        "post_clip",
        description="place where lambda acts on a clipped gradient; `ignored` is the authors' code",
    )
    decay_factor: float = Field(0.5, gt=0, le=1, description="factor of lambda at a milestone")
    prepare_epochs: int = Field(
        40, ge=1, description="epochs in which the loss's own parts learn from the teacher (MHGD, II-KD, FT)"
    )


@settings
class MachineSettings(ComputeSettings):
    """Where it is computed."""

    device: str = Field(default="auto", description="`cpu`, `cuda`, `cuda:1`, or `auto`")
    threads: Integer | None = Field(
        default=None, ge=1, description="threads of a final training; None: the number of cores"
    )
    workers: Integer | None = Field(
        default=None, ge=1, description="processes of a search; None: the number of cores"
    )
    checkpoint_seconds: Number = Field(default=30.0, ge=0, description="minimum seconds between checkpoints")


class Config(Section):
    """All settings of a run. A run directory's `config.json` holds the resolved whole."""

    preset: str = Field("demo", description="named settings that these began with; see below")
    seed: int = Field(0, ge=0, description="base seed of every random stream")
    baselines: tuple[Baseline, ...] = Field(
        BASELINES, description="trainings that the result is compared with; also `all`, or `none`"
    )
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    search: SearchConfig = SearchConfig()
    kd: KDConfig = KDConfig()
    machine: MachineSettings = MachineSettings()

    @field_validator("baselines", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Names in one text, with commas; `all` and True, `none` and False."""
        if value is True or value == "all":
            return BASELINES
        if value is False or value is None or value == "none":
            return ()
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
        return list(dict.fromkeys(names)) if texts else names

    def role(self, role: str) -> TeacherConfig | StudentConfig:
        """The teacher's or the student's section."""
        return self.teacher if role == "teacher" else self.student


def _paper(data: str, network: str, bits: int, student: str | None = None) -> dict[str, Any]:
    """The paper's full settings for one cell (section 5.1): the teacher's search on reduced CIFAR-10."""
    return {
        "data": {"name": data, "search_train": 4000, "search_validation": 36000},
        "teacher": {"network": network, "search_data": "cifar10"},
        "student": {"network": student, "weight_bits": bits, "act_bits": bits},
    }


# What published trainings of these networks have and the paper's lack; `docs/training.md` states the sources.
_STRONG = {"lr_schedule": "cosine", "cutmix": 1.0, "mix_probability": 0.5}


def _strong(paper: Mapping[str, Any]) -> dict[str, Any]:
    """The same cell as one of the paper's, teacher, student and members with the stronger recipe."""
    return {**paper, **{role: {**paper[role], "train": dict(_STRONG)} for role in ("teacher", "student")}}


def _small(
    name: str,
    *,
    data: Mapping[str, Any] | None = None,
    batch_size: int = 128,
    epochs: tuple[int, int] = (6, 3),
) -> dict[str, Any]:
    """A small network and few epochs, of teacher and student, for a CPU."""
    teacher, student = epochs
    return {
        "data": {"name": name, **(data or {})},
        "search": {"population": 8, "epochs": 10, "interval": 1},
        "teacher": {
            "network": "resnet8-small",
            "train": {"epochs": teacher, "lr": 0.1, "batch_size": batch_size},
        },
        "student": {"train": {"epochs": student, "lr": 2e-3, "batch_size": batch_size}},
        "kd": {"prepare_epochs": 1},
    }


def _presets() -> dict[str, dict[str, Any]]:
    presets: dict[str, dict[str, Any]] = {
        "demo": {
            # Of the first seeds the first in which both searches end with an augmentation: something to look at. It was
            # not chosen by test accuracy.
            "seed": 2,
            # Few images a search: augmentation matters where data are scarce.
            "data": {"search_train": 320, "search_validation": 600},
            "search": {"population": 8, "epochs": 20, "interval": 1},
            "teacher": {
                "network": "cnn-tiny",
                "train": {"epochs": 20, "batch_size": 64, "lr": 0.1, "flip": False, "crop": 2},
            },
            "student": {"train": {"epochs": 20, "batch_size": 64, "lr": 2e-3, "flip": False, "crop": 2}},
            "kd": {"prepare_epochs": 5},
            # A network this small gains nothing from a second thread.
            "machine": {"threads": 1},
        },
    }
    for name, row in DATA_SETS.items():
        if row.preset is not None:
            presets[f"{name}-small"] = _small(name, **row.preset)
    for data in ("cifar10", "cifar100"):
        for network in ("alexnet", "resnet18"):
            for bits in (4, 2):
                presets[f"paper-{data}-{network}-w{bits}a{bits}"] = _paper(data, network, bits)
    # The paper's numbers as they are: `reproduce` states everything else of its runs.
    presets["experiment"] = {}
    presets["paper-cifar100-resnet8-fp32"] = _paper("cifar100", "resnet18", 32, student="resnet8")
    for name in [name for name in presets if name.startswith("paper-")]:
        presets[name.replace("paper-", "strong-", 1)] = _strong(presets[name])
    return presets


PRESETS = _presets()


def load_config(
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The resolved settings; later sources win: defaults, preset, file, `--set`, options of the command.

    Args:
        preset: a name of `PRESETS`; None takes the file's, else "demo" for digits, and for other data the small one of
            their name, such as "cifar10-small".
        file: YAML or TOML, by suffix; JSON is YAML too, so a run's `config.json` will do.
        assignments: texts such as "student.weight_bits=2".
        options: dotted keys and values; those that are None are left out.

    Raises:
        InputError: an unknown preset or key (the nearest is named), a value of a wrong type or out of range, a broken
            file; every fault is listed.
    """
    tree: dict[str, Any] = {}
    given = read_settings_file(Path(file)) if file is not None else {}
    name = preset or given.get("preset") or _default_preset(load_tree(given, assignments, options or {}))
    if not isinstance(name, str) or name not in PRESETS:
        raise InputError(unknown("preset", name, PRESETS))
    _merge(tree, PRESETS[name])
    _merge(tree, given)
    tree["preset"] = name
    return parse_config(load_tree(tree, assignments, options or {}))


def _default_preset(tree: Mapping[str, Any]) -> str:
    """The preset for the data that the tree names."""
    section = tree.get("data")
    name = section.get("name") if isinstance(section, Mapping) else None
    if isinstance(name, str) and is_own_code(name):
        name = "folder"  # your own images as well
    return f"{name}-small" if f"{name}-small" in PRESETS else "demo"


def load_tree(
    tree: Mapping[str, Any], assignments: Iterable[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """A copy of the tree with texts such as "student.weight_bits=2" and dotted options put in.

    Raises:
        InputError: a text without `=`, or a key below something that is no section.
    """
    copy: dict[str, Any] = json.loads(json.dumps(tree))
    for key, value in read_changes(assignments, options).items():
        _put(copy, key, value)
    return copy


def read_changes(assignments: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names, from texts such as "student.weight_bits=2" and from options that are not None.

    Raises:
        InputError: a text without `=`, or whose value cannot be read.
    """
    found: dict[str, Any] = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise InputError(f'`--set` takes KEY=VALUE such as student.weight_bits=2, got "{text}".')
        found[key.strip()] = read_value(value)
    return found | {key: value for key, value in options.items() if value is not None}


def changed(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """The settings of `tree` with dotted names set to other values, such as {"student.weight_bits": 2}.

    Raises:
        InputError: see `load_config`.
    """
    copy: dict[str, Any] = json.loads(json.dumps(tree))
    for key, value in changes.items():
        _put(copy, key, value)
    return parse_config(copy)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings with dotted names."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "arguments":
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = list(value) if isinstance(value, tuple) else value
    return found


def parse_config(tree: Mapping[str, Any]) -> Config:
    """The settings from a tree of plain values; see `load_config` for the errors."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(_explain(error)) from None


def _merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict) and key != "arguments":
            _merge(tree[key], value)
        else:
            tree[key] = json.loads(json.dumps(value)) if isinstance(value, Mapping) else value


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        below = tree.setdefault(part, {})
        if not isinstance(below, dict):
            raise InputError(f'`--set`: "{key}" lies below "{part}", which is not a section.')
        tree = below
    tree[last] = value


def _known(location: tuple[Any, ...]) -> list[str]:
    """The keys of the section at `location`."""
    section: Any = Config
    for part in location:
        section = get_type_hints(section)[part]
    return field_names(section)


def _explain(error: ValidationError) -> str:
    unknown_key = ("extra_forbidden", "unexpected_keyword_argument")
    said = []
    for fault in error.errors():
        *above, name = (str(part) for part in fault["loc"])
        deeper = _deeper(above, name) if fault["type"] in unknown_key else None
        text = explain(fault, _known(fault["loc"][:-1]) if fault["type"] in unknown_key else ())
        said.append(f'{text.partition(" Did you mean")[0]} Did you mean "{deeper}"?' if deeper else text)
    return "\n".join(said)


def _deeper(above: list[str], name: str) -> str | None:
    """The setting of this very name in a group below the one where it was looked for."""
    names = [one for one in flat(Config().model_dump()) if one.split(".")[-1] == name]
    return next((one for one in names if one.split(".")[: len(above)] == above), None)
