"""What a run would do, and about how long it would take on this machine: measured on a few steps, then computed."""

import time
from dataclasses import replace

from torch import nn

from rolewise import networks
from rolewise.config import Config, cores
from rolewise.data import load_data
from rolewise.kd import load_loss
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.population import Estimate
from rolewise.population import estimate as estimate_search
from rolewise.quant import quantize
from rolewise.seeds import torch_generator
from rolewise.stages import TRAININGS, train_settings
from rolewise.trainer import Trainer, torch_threads

_TIMED_STEPS = 8


def estimate(config: Config, only: str | None = None) -> str:
    """A text of one line a stage, and the sum.

    Nothing is written and no test image is read. The teacher is untrained here, and a loss that trains parts of its own
    on the teacher is given one epoch of it; neither changes what a step costs.

    Args:
        config: resolved settings.
        only: "teacher" or "student": that role's search alone.
    """
    seconds: dict[str, float] = {}
    lines = []
    for role in ("teacher", "student"):
        if only not in (None, role):
            continue
        found = _search(config, role)
        lines.append(f"search of the {role}'s schedule: {found}")
        seconds[f"search-{role}"] = found.seconds
    if only is None:
        for training in TRAININGS.values():
            if training.baseline and not config.baselines:
                continue
            seconds[training.key] = _training(config, training.role, kd=training.kd)
            lines.append(f"{training.title}: about {_duration(seconds[training.key])}")
        lines.append(f"together about {_duration(sum(seconds.values()))}")
    return "\n".join(lines)


def _parts(config: Config, role: str, classes: int) -> tuple[nn.Module, Objective]:
    """The role's network and objective, untrained."""
    teacher = networks.build(config.teacher.network, num_classes=classes, **config.teacher.arguments)
    teacher.reset(torch_generator(config.seed, "estimate"))
    if role == "teacher":
        return teacher, CrossEntropy()
    student = config.student
    model = networks.build(
        student.network or config.teacher.network,
        num_classes=classes,
        **({} if student.network else config.teacher.arguments) | student.arguments,
    )
    if student.weight_bits < 32 or student.act_bits < 32:
        quantize(model, student.weight_bits, student.act_bits, method=student.quantizer)
    if config.kd.loss == "none":
        return model, CrossEntropy()
    loss = load_loss(config.kd.loss, variant=config.kd.variant, **config.kd.arguments)
    objective = Distill(teacher.eval(), loss, config.kd.weight, clip=config.kd.clip, prepare_epochs=1)
    return model, objective


def _search(config: Config, role: str) -> Estimate:
    other = config.teacher.search_data if role == "teacher" else None
    data = load_data(other or config.data.name, config.data.root, size=config.data.size)
    model, objective = _parts(config, role, len(data.classes))
    one, _ = data.reduced(config.data.search_train, config.data.search_validation)
    objective.prepare(one, seed=config.seed)
    return estimate_search(
        model,
        data,
        objective=objective,
        population=config.search.population,
        epochs=config.search.epochs,
        interval=config.search.interval,
        settings=train_settings(config, role, searching=True),
        train_images=config.data.search_train,
        validation_images=config.data.search_validation,
        workers=config.machine.workers or cores(),
        engine=config.search.engine,
        ray_address=config.search.ray_address,
        gpus_per_member=config.search.gpus_per_member,
    )


def _training(config: Config, role: str, *, kd: bool) -> float:
    """Seconds of a final training, from the time of some steps."""
    data = load_data(config.data.name, config.data.root, size=config.data.size)
    settings = train_settings(config, role, searching=False)
    model, objective = _parts(config, role, len(data.classes))
    if not kd:
        objective = CrossEntropy()
    searched, _ = data.reduced(config.data.search_train, config.data.search_validation)
    objective.prepare(searched, seed=config.seed)
    with torch_threads(settings.threads):
        trainer = Trainer(model, objective, data.train, replace(settings, epochs=1), seed=0)
        trainer.model.train()
        objective.set_epoch(0, 0)
        marks = []
        for batch in trainer.feeder.batches(0, None):
            trainer.train_step(batch)
            marks.append(time.monotonic())
            if len(marks) > _TIMED_STEPS:
                break
    # The first step compiles and allocates, and counts once.
    step = (marks[-1] - marks[0]) / max(1, len(marks) - 1)
    return step * settings.epochs * trainer.steps


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
