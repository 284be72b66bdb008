"""Networks, losses and numbers as a run's settings describe them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import nn

from rolewise import networks
from rolewise._machine import cores
from rolewise._roles import A_T, STUDENT, TEACHER
from rolewise.augment import Schedule
from rolewise.bits import FULL
from rolewise.config import Config
from rolewise.data import Data, load_data
from rolewise.errors import InputError, check_path
from rolewise.kd import KDLoss, load_loss
from rolewise.networks.own import build_own
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.own_code import is_own_code
from rolewise.pretrained import describe, load_network, load_weights
from rolewise.quant import quantize
from rolewise.seeds import derive_seed, torch_generator
from rolewise.settings import ComputeSettings, field_names
from rolewise.settings.members import member_recipe
from rolewise.trainer import TrainSettings

Image = tuple[int, int, int]  # channels, height, width
NO_LOSS = "none"  # what a setting says where the student learns from labels alone


def load(config: Config) -> Data:
    """The data set that teacher and student are for.

    Raises:
        InputError: it cannot be read, or it is another one than the settings say.
    """
    one = config.data
    data = load_data(
        one.name,
        one.root,
        size=one.size,
        resize=one.resize,
        channels=one.channels or 3,
        skip_bad=one.skip_bad,
        store=one.store or "auto",
        arguments=one.arguments,
    )
    if any(number is not None for number in (one.train_images, one.test_images, one.held_out)):
        data = data.limited(one.train_images, one.test_images, one.held_out)
    if one.fingerprint is not None and data.fingerprint() != one.fingerprint:
        raise InputError(
            f"The training images of {one.name} in {one.root} are not those of the settings: their fingerprint is "
            f"{data.fingerprint()[:16]}..., but `data.fingerprint` is {one.fingerprint[:16]}...."
        )
    return data


def load_searched(config: Config, role: str, data: Data) -> Data:
    """The data set of a role's search: the paper transfers the teacher's schedule from CIFAR-10.

    Args:
        config: resolved settings.
        role: "teacher" or "student".
        data: data set from `load`, used again if the search has no other.
    """
    other = config.teacher.search_data if role == TEACHER else None
    return data if other in (None, config.data.name) else load_data(str(other), config.data.root)


def train_settings(config: Config, role: str, *, searching: bool) -> TrainSettings:
    """The numbers of a role's final training, or of the members of its search."""
    recipe, machine, search = config.role(role).train, config.machine, config.search
    if searching:
        try:
            recipe = member_recipe(recipe, search.train, epochs=search.epochs, batch_size=search.batch_size)
        except InputError as error:
            raise InputError(
                f"Members of the {role}'s search train as `{role}.train` says, changed by `search.train`, for the "
                f"{search.epochs} epochs of `search.epochs`, and that cannot be: {error} Name the members' own value "
                "in `search.train`, or change `search.epochs`."
            ) from error
    threads = 1 if searching else machine.threads or cores()
    return TrainSettings(**vars(recipe), **_computing(config), threads=threads).resolved()


def _computing(config: Config) -> dict[str, Any]:
    return {name: getattr(config.machine, name) for name in field_names(ComputeSettings)}


def resolve(config: Config, data: Data | None = None) -> Config:
    """The settings with the machine's choices written down, so that a resume computes the same way.

    Args:
        config: settings.
        data: the data set that they name, whose fingerprint is written down too.

    Raises:
        InputError: a device that is not there.
    """
    machine = config.machine
    chosen = TrainSettings(1, **_computing(config)).resolved()
    found = {name: getattr(chosen, name) for name in field_names(ComputeSettings)}
    machine = replace(machine, **found, threads=machine.threads or cores())
    images = config.data
    if data is not None:
        images = images.model_copy(update={"fingerprint": data.fingerprint()})
    return resolve_loss(config.model_copy(update={"machine": machine, "data": images}))


def resolve_loss(config: Config) -> Config:
    """The settings with the weights, the decay and the clip that the distillation loss has of its own written down.

    Raises:
        InputError: an unknown loss, or arguments that it does not take.
    """
    loss, section = new_loss(config), config.kd
    if loss is None:
        return config
    task_weight = loss.task_weight if section.task_weight is None else section.task_weight
    own = {
        "weight": loss.weight,
        "task_weight": task_weight,
        "decay": loss.decay,
        "clip": loss.clip and task_weight > 0,  # as in `Distill`
    }
    found = {name: value for name, value in own.items() if getattr(section, name) is None}
    return config.model_copy(update={"kd": section.model_copy(update=found)})


def image_form(data: Data) -> Image:
    """(channels, height, width) of what networks see."""
    return data.train.channels, *data.train.image_size


def _network(
    spec: str, arguments: Mapping[str, Any], classes: int, image: Image, key: tuple[Any, ...]
) -> nn.Module:
    """A network of the package or from own code, its initial weights drawn from the stream of `key`."""
    if is_own_code(spec):
        return build_own(
            spec, num_classes=classes, arguments=arguments, seed=derive_seed(*key), image=image
        ).model
    model = networks.build(spec, num_classes=classes, **arguments)
    model.reset(torch_generator(*key))
    return model


def own_notes(config: Config, classes: int, image: Image) -> list[str]:
    """What a person should know of taps and act points that were proposed for own networks."""
    specs = {config.teacher.network: config.teacher.arguments}
    if config.student.network is not None:
        specs[config.student.network] = config.student.arguments
    made = [
        build_own(spec, num_classes=classes, arguments=arguments, image=image)
        for spec, arguments in specs.items()
        if is_own_code(spec)
    ]
    return [note for one in made if (note := one.note()) is not None]


def new_teacher(config: Config, classes: int, image: Image) -> nn.Module:
    """The teacher's network before training."""
    section = config.teacher
    return _network(section.network, section.arguments, classes, image, (config.seed, "init", "teacher"))


def load_trained(config: Config, path: str | Path, role: str, classes: int, image: Image) -> nn.Module:
    """A role's file; one of own code, which the file cannot build, goes into the network that the settings name."""
    spec, arguments = _named(config, role)
    if describe(path)["architecture"].get("name") is None and is_own_code(spec):
        return load_network(
            path, model=_network(spec, arguments, classes, image, (config.seed, "init", role))
        )
    return load_network(path)


def _named(config: Config, role: str) -> tuple[str, dict[str, Any]]:
    """A role's network and its arguments; the student's is the teacher's unless it has its own."""
    teacher, student = config.teacher, config.student
    if role == TEACHER:
        return teacher.network, teacher.arguments
    if student.network:
        return student.network, student.arguments
    return teacher.network, {**teacher.arguments, **student.arguments}


def given_teacher(config: Config, data: Data) -> tuple[nn.Module, dict[str, str]]:
    """The teacher that was trained elsewhere, and what the records say of its weights.

    Raises:
        InputError: neither its file nor its weights are named, or they do not fit, or it was trained for other classes,
            or for the same in another order.
    """
    section, image = config.teacher, image_form(data)
    if section.weights is not None:
        model = new_teacher(config, len(data.classes), image)
        return model, load_weights(model, section.weights)
    path = check_path("teacher.file", str(section.file))
    if path.suffix in (".pth", ".pt", ".ckpt", ".bin"):
        raise InputError(
            f"`teacher.file` {path} holds weights and no network: name both, --network NAME (or FILE.py:NAME) and "
            f"--teacher-weights {path}."
        )
    classes = describe(path).get("classes")
    if classes is not None and tuple(classes) != tuple(data.classes):
        pairs = zip_longest(classes, data.classes)
        first = next((number, pair) for number, pair in enumerate(pairs) if pair[0] != pair[1])
        raise InputError(
            f"`teacher.file` {path} was trained for the classes {some(classes)}, but {data.name} has "
            f"{some(data.classes)}: number {first[0]} is {first[1][0]!r} there and {first[1][1]!r} here. A teacher of "
            "other classes, or of the same in another order, would teach wrong labels."
        )
    return load_trained(config, path, TEACHER, len(data.classes), image), {}


def new_student(
    config: Config, classes: int, image: Image, teacher: nn.Module | None
) -> tuple[nn.Module, networks.InitReport | None]:
    """The student before training, quantized.

    Args:
        config: resolved settings.
        classes: number of classes.
        image: (channels, height, width) of what networks see.
        teacher: network whose weights the student starts from where names and shapes match; None for random ones.

    Returns:
        The student, and what it took from the teacher.
    """
    section = config.student
    name, arguments = _named(config, STUDENT)
    model = _network(name, arguments, classes, image, (config.seed, "init", "student"))
    report = None if teacher is None else networks.init_from(model, teacher)
    if section.weight_bits < FULL or section.act_bits < FULL:
        outer = section.first_last_bits
        quantize(
            model, section.weight_bits, section.act_bits, method=section.quantizer, first_last_bits=outer
        )
    return model, report


def needs_teacher(config: Config) -> bool:
    """Whether the student cannot be trained without a teacher."""
    return config.student.init == TEACHER or config.kd.loss != NO_LOSS


def new_loss(config: Config) -> KDLoss | None:
    """The distillation loss that the settings name."""
    section = config.kd
    if section.loss == NO_LOSS:
        return None
    return load_loss(section.loss, variant=section.variant, **section.arguments)


def new_objective(config: Config, teacher: nn.Module) -> Objective:
    """What the student minimizes; a loss with parts of its own is not prepared yet."""
    loss, section = new_loss(config), config.kd
    if loss is None:
        return CrossEntropy()
    return Distill(
        teacher,
        loss,
        section.weight,
        task_weight=section.task_weight,
        decay=section.decay,
        clip=section.clip,
        lambda_mode=section.lambda_mode,
        decay_factor=section.decay_factor,
        prepare_epochs=section.prepare_epochs,
    )


def warm_start(config: Config) -> Schedule | None:
    """The schedule whose file the settings name for members to begin with; None for none, or for the run's own A_T.

    Raises:
        InputError: no such file, or one that holds no schedule.
    """
    named, epochs = config.search.warm_start, config.search.epochs
    return None if named in (None, A_T) else Schedule.load(Path(str(named)), epochs).stretch(epochs)


def some(names: Sequence[str], most: int = 4) -> str:
    """The first of many names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
