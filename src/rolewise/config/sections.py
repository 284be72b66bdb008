"""The tree of settings: each section with its fields, defaults, ranges and meanings."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from rolewise.bits import FULL, MAX_BITS
from rolewise.errors import InputError
from rolewise.settings import (
    STUDENT,
    ComputeSettings,
    Integer,
    Number,
    SearchSettings,
    Section,
    TrainRecipe,
    settings,
)
from rolewise.settings.members import AVERAGES, GOES_WITH

Baseline = Literal["teacher-plain", "student-plain", "student-scratch", "student-kd", "student-a-t"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


class DataConfig(Section):
    """What is learned."""

    name: str = Field("digits", description="a name of rolewise.data.DATA_SETS, or FILE.py:function")
    root: str | None = Field(None, description="folder that holds the data set")
    size: Integer = Field(32, ge=16, le=1024, description="side of the images of a `folder`, pixels")
    resize: Integer | None = Field(
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
    search_train: Integer | None = Field(None, ge=2, description="training images of a search")
    search_validation: Integer | None = Field(None, ge=1, description="held-out training images of a search")
    train_images: Integer | None = Field(
        None,
        ge=2,
        description="training images of final trainings, the first of the search's shuffle; None: all",
    )
    test_images: Integer | None = Field(None, ge=1, description="test images, the first ones; None: all")
    held_out: Integer | None = Field(
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
    weight_bits: Integer = Field(4, description="bits of weights, 1 to 8, or 32 for full precision")
    act_bits: Integer = Field(4, description="bits of activations, 1 to 8, or 32 for full precision")
    first_last_bits: Integer = Field(
        32,
        description="bits of the first and the last layer's weights, 8 being usual (Esser et al., ICLR 2020); 32: they "
        "stay float",
    )
    quantizer: str = Field("dorefa", description="a name of rolewise.quant.METHODS")
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
        if not (1 <= bits <= MAX_BITS or bits == FULL):
            raise PydanticCustomError("bits", f"bits must be 1 to {MAX_BITS}, or {FULL} for full precision")
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
        for name in AVERAGES:
            if train.get(name) is not None:
                raise PydanticCustomError(
                    "train", f"must not hold `{name}`: members are scored by their weights, and average none"
                )
        # What goes with another setting may belong to the role's own; `member_recipe` checks the whole.
        alone = {
            name: value
            for name, value in train.items()
            if name not in GOES_WITH or any(one in train for one in GOES_WITH[name])
        }
        try:
            TrainRecipe(**alone)
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
    weight: Number | None = Field(
        None, ge=0, le=1e6, description="lambda, factor of the distillation loss; none: the loss's own"
    )
    task_weight: Number | None = Field(
        None,
        ge=0,
        le=1e6,
        description="factor of cross-entropy; none: the loss's own, mostly 1; 0: without labels (Zhao and Zhao, "
        "AISTATS 2024)",
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
    decay_factor: Number = Field(0.5, gt=0, le=1, description="factor of lambda at a milestone")
    prepare_epochs: Integer = Field(
        40, ge=1, description="epochs in which the loss's own parts learn from the teacher (MHGD, II-KD, FT)"
    )

    @field_validator("task_weight")
    @classmethod
    def _learns(cls, weight: float | None, info: ValidationInfo) -> float | None:
        if weight == 0 and info.data.get("loss") == "none":
            raise PydanticCustomError(
                "task_weight", "must be above 0 where `kd.loss` is none: the student would learn nothing"
            )
        return weight


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
    seed: Integer = Field(0, ge=0, description="base seed of every random stream")
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
