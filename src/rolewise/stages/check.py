"""Finds errors before a run directory is made: names, files, data, and parts that do not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import one_hot

from rolewise import networks
from rolewise._machine import cores
from rolewise._roles import ROLES, STUDENT, TEACHER
from rolewise.augment import normalize
from rolewise.config import Config
from rolewise.data import Data, Split, check_data_name
from rolewise.errors import InputError, first_line, unknown
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.own_code import find_own_code, is_own_code
from rolewise.population import make_strategy
from rolewise.runs import layout
from rolewise.stages import build
from rolewise.stages.schedules import named_schedule
from rolewise.stages.trainings import searches, teacher_given
from rolewise.trainer import Trainer, TrainSettings, check_classes

_IMAGES = 8  # on which teacher, student and loss are tried


def check(config: Config, *, only: str | None = None, begun: bool = False) -> Data:
    """Checks settings, files and data; builds teacher, student and loss, and makes one step with a few images.

    No random stream moves, and nothing is written.

    Args:
        config: the settings of a run.
        only: the one stage that is wanted of the run, such as "search-teacher" or "train-student" (see
            `rolewise.runs.layout`); what it does not need is not tried. None is a whole run.
        begun: True if the run exists, and may hold the teacher and the schedules that the stage needs.

    Returns:
        The data set, so that it need not be read twice.

    Raises:
        InputError: the first thing that cannot be.
    """
    _check_names(config)
    _check_files(config)
    if only is not None and not begun:
        _check_beginning(config, only)
    data = build.load(config)
    if data.check_test is not None:
        data.check_test()
    roles = [role for role in ROLES if only in (None, layout.search_stage(role), layout.train_stage(role))]
    for role in roles:
        _check_sizes(config, role, data)
    with torch.random.fork_rng(devices=[]):
        _try_parts(config, data, {role: _trainings(config, role, only) for role in roles})
    return data


def _check_names(config: Config) -> None:
    for name in (config.teacher.network, config.student.network):
        if name is None:
            continue
        if is_own_code(name):
            find_own_code(name, "network")
        elif name not in networks.NETWORKS:
            hint = 'A network of your own is given as "FILE.py:function".'
            raise InputError(f"{unknown('network', name, networks.NETWORKS)} {hint}")
    if config.teacher.file is not None and config.teacher.weights is not None:
        raise InputError(
            "`teacher.file` and `teacher.weights` both name a trained teacher: give one of them."
        )
    check_data_name(config.data.name)
    build.new_loss(config)
    make_strategy(config.search)
    workers = config.machine.workers
    if workers is not None and workers > 8 * cores():
        raise InputError(f"`workers` is {workers}, but there are {cores()} cores.")
    build.resolve(config)


def _check_files(config: Config) -> None:
    for file in (config.teacher.file, config.teacher.weights):
        if file is not None and not Path(file).is_file():
            raise InputError(f"There is no file {file}.")
    for role in ROLES:
        section = config.role(role)
        if section.schedule is not None:
            named_schedule(section.schedule, section.train.epochs)
    build.warm_start(config)


def _check_beginning(config: Config, only: str) -> None:
    """Whether a new run can begin with this stage."""
    student = only in (layout.search_stage(STUDENT), layout.train_stage(STUDENT))
    if student and not teacher_given(config) and build.needs_teacher(config):
        raise InputError(
            "A new run has no teacher yet: train one in it first with `rolewise train --role teacher`, or name one "
            "with `--teacher FILE`, or `--network` with `--teacher-weights`."
        )
    for role in ROLES:
        if only == layout.train_stage(role) and config.role(role).schedule is None:
            raise InputError(
                f"A new run has no {layout.schedule_file(role)} yet: search it first with `rolewise search --role "
                f"{role}`, or name one with `--schedule FILE`, or train without: `--schedule none`."
            )


def _check_sizes(config: Config, role: str, data: Data) -> None:
    """Whether the batches of a role's training and search have enough images."""
    batch = config.role(role).train.batch_size
    if batch > len(data.train):
        raise InputError(
            f"`{role}.train.batch_size` is {batch}, but {data.name} has {len(data.train)} training images."
        )
    if not searches(config, role):
        return
    searched = build.load_searched(config, role, data)
    trained, _ = searched.reduced(config.data.search_train, config.data.search_validation)
    batch = config.search.batch_size or batch
    if batch > len(trained):
        raise InputError(
            f"A search's batch has {batch} images, but its training split has {len(trained)}: "
            "lower `search.batch_size` or raise `data.search_train`."
        )


def _trainings(config: Config, role: str, only: str | None) -> list[bool]:
    """Which trainings of a role are wanted: True is that of a search's members, who train differently, False the final.

    Both are tried before either begins.
    """
    stages = {False: layout.train_stage(role), True: layout.search_stage(role)}
    return [
        searching
        for searching, stage in stages.items()
        if (only is None and (not searching or searches(config, role))) or only == stage
    ]


def _few(data: Data) -> Split:
    return data.train.subset(torch.arange(min(_IMAGES, len(data.train))))


def _try_parts(config: Config, data: Data, wanted: Mapping[str, Sequence[bool]]) -> None:
    """Builds the networks and the loss on the CPU and makes one step of each training of each role."""
    few = _few(data)
    classes, image, given = len(data.classes), build.image_form(data), teacher_given(config)
    if given:
        teacher, _ = build.given_teacher(config, data)
    else:
        teacher = build.new_teacher(config, classes, image)
    check_classes(teacher, few, torch.device("cpu"), role=TEACHER)
    for searching in () if given else wanted.get(TEACHER, ()):
        settings = build.train_settings(config, TEACHER, searching=searching)
        searched = build.load_searched(config, TEACHER, data) if searching else data
        learns, images = teacher, few
        if searched is not data:
            learns = build.new_teacher(config, len(searched.classes), build.image_form(searched))
            images = _few(searched)
        _step(learns, CrossEntropy(), images, settings, role=TEACHER)
    if STUDENT not in wanted:
        return
    start = teacher if config.student.init == TEACHER else None
    student, _ = build.new_student(config, classes, image, start)
    check_classes(student, few, torch.device("cpu"))
    objective = build.new_objective(config, teacher.eval())
    if isinstance(objective, Distill):
        objective.prepare_epochs = 1
    try:
        objective.prepare(few, seed=config.seed)
        for searching in wanted[STUDENT]:
            settings = build.train_settings(config, STUDENT, searching=searching)
            _step(student, objective, few, settings, role=STUDENT)
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise InputError(
            f"`kd.loss` {config.kd.loss} cannot be computed for the teacher {config.teacher.network} and the student "
            f"{config.student.network or config.teacher.network}: {first_line(error)}"
        ) from error


def _step(model: nn.Module, objective: Objective, few: Split, settings: TrainSettings, *, role: str) -> None:
    """One forward and backward pass of a trainer that has these settings, on the CPU."""
    here = replace(
        settings,
        batch_size=len(few),
        device="cpu",
        precision="fp32",
        channels_last=False,
        compile=False,
        threads=1,
    )
    trainer = Trainer(model, objective, few, here, role=role)
    trainer.begin_epoch()
    images = normalize(few.images[:], few.mean, few.std, dtype=torch.float32, channels_last=False)
    # Labels of mixed images are probabilities, and a loss sees none of them.
    labels = few.labels if settings.mixing is None else one_hot(few.labels, len(few.classes)).float()
    objective.backward(trainer.model, images, labels, few.ids)
