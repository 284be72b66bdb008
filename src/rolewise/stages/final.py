"""The final trainings of a run: each under its schedule, tested once, kept with a row of the result table."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from rolewise._roles import ROLES, SCHEDULES, TEACHER
from rolewise.config import Config
from rolewise.errors import InputError
from rolewise.objective import CrossEntropy
from rolewise.pretrained import save_network
from rolewise.runs import layout
from rolewise.stages import build
from rolewise.stages.network_info import network_info
from rolewise.stages.pipeline import Pipeline
from rolewise.stages.schedules import Source, named_schedule, searched_schedule
from rolewise.stages.trainings import TRAININGS, Training, teacher_given
from rolewise.trainer import Result, Trainer, best_state, final_test, fit, torch_threads


def train_final(pipeline: Pipeline, training: Training) -> None:
    """One final training; writes the network, its outputs for the test images, and its row of the result table."""
    done = pipeline.run.done(training.stage)
    again = done and _is_lost(pipeline, training)
    if done and not again and training.key in TRAININGS:
        return
    settings = pipeline.settings(training.role)
    source = _schedule(pipeline, training, settings.epochs)
    identity = _identity(pipeline.config, training, source)
    if done and not again:
        _check_further(pipeline, training, identity)
        return
    if training.baseline and (same := pipeline.records.same(identity, training.key)) is not None:
        _copy(pipeline, training, source, same)
        return
    teaches = training.role == TEACHER
    if teaches:
        form = build.image_form(pipeline.data)
        model = build.new_teacher(pipeline.config, len(pipeline.data.classes), form)
    else:
        model = pipeline.student(training.init(pipeline.config))
    objective = pipeline.objective(training.role, kd=training.kd)
    with pipeline.records.cost(training.stage) as cost, torch_threads(settings.threads):
        trainer = Trainer(
            model,
            objective,
            pipeline.data.train,
            settings,
            seed=pipeline.config.seed,
            role=training.role,
            should_stop=pipeline.should_stop,
            progress=pipeline.progress,
            group=pipeline.group,
        )
        save_seconds = pipeline.config.machine.checkpoint_seconds
        history = fit(
            trainer,
            source.schedule,
            run=pipeline.run,
            stage=training.stage,
            identity={"schedule": source.name, "training": identity},
            validation=pipeline.data.held_out,
            save_seconds=save_seconds,
        )
        last = None if source.schedule is None else source.schedule[settings.epochs - 1]
        best = None if pipeline.data.held_out is None else best_state(pipeline.run, training.stage)
        result = final_test(trainer, pipeline.data.test, history, policy=last, best=best)
        cost["images"] = settings.epochs * trainer.steps * settings.batch_size
    row = training.describe(pipeline.config, model, source)
    row |= {"epochs": settings.epochs, "training": identity}
    _finish(pipeline, training, model, result, row, again=again)


def _is_lost(pipeline: Pipeline, training: Training) -> bool:
    """Whether a network or the row of a complete training is gone, so that its checkpoint is to give them again.

    Raises:
        InputError: the checkpoints are gone too.
    """
    row = pipeline.records.row(training.key)
    files = [training.file]
    if row is not None and row.get("accuracy_averaged") is not None:
        files.append(layout.averaged_file(training.key, baseline=training.baseline))
    lost = [file for file in files if not pipeline.run.file(file).exists()]
    if row is not None and (row.get("same_as") or not lost):
        return False
    what = layout.RESULTS if row is None else lost[0]
    taken = training.key == TEACHER and teacher_given(pipeline.config)
    if not taken and pipeline.run.checkpoints(training.stage).latest() is None:
        raise InputError(
            f"{pipeline.run.path}: {what} has lost {training.key}, whose checkpoints are gone too: restore it, or "
            "start another run with `--out`."
        )
    pipeline.progress.note(f"{what} has lost {training.key}: it is made again")
    return True


def take_teacher(pipeline: Pipeline) -> None:
    """Puts the network that the settings name by its file in the teacher's place, after testing it."""
    training, settings = TRAININGS[TEACHER], pipeline.settings(TEACHER)
    done = pipeline.run.done(training.stage)
    again = done and _is_lost(pipeline, training)
    if done and not again:
        return
    model, weights = build.given_teacher(pipeline.config, pipeline.data)
    trainer = Trainer(model, CrossEntropy(), pipeline.data.train, settings, seed=pipeline.config.seed)
    with torch_threads(settings.threads):
        result = final_test(trainer, pipeline.data.test, [])
    row = training.describe(pipeline.config, model, Source(), taken=True)
    row |= {"epochs": 0, "training": None}
    _finish(pipeline, training, model, result, row, again=again, weights=weights)


def _schedule(pipeline: Pipeline, training: Training, epochs: int) -> Source:
    """A training's schedule, stretched to its length, and its source."""
    if training.schedule is None:
        return Source()
    role = next((role for role in ROLES if SCHEDULES[role] == training.schedule), None)
    named = training.schedule if role is None else pipeline.config.role(role).schedule
    if named is not None:
        found = named_schedule(named, epochs, seed=pipeline.config.seed)
    else:
        assert role is not None
        found = searched_schedule(pipeline.run, role, pipeline.config.search.epochs)
    if found.schedule is not None and len(found.schedule) != epochs:
        pipeline.progress.note(
            f"{found.name}: {len(found.schedule)} epochs stretched to the training's {epochs}"
        )
    return found.stretched(epochs)


def _identity(config: Config, training: Training, source: Source) -> str:
    """16 hexadecimal digits for all in which the trainings of a run differ from each other."""
    about = [training.role, training.init(config), training.loss(config), source.digest]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _check_further(pipeline: Pipeline, training: Training, identity: str) -> None:
    """Checks that an existing control is the requested one."""
    row = pipeline.records.row(training.key)
    if row is not None and row.get("training") != identity:
        raise InputError(
            f'The row "{training.key}" is there already, under {row["schedule"] or "no schedule"}: name another '
            "with `--as`."
        )


def _copy(pipeline: Pipeline, training: Training, source: Source, same: Mapping[str, Any]) -> None:
    """The row of a training that would be one which is done already, to the byte."""
    if not pipeline.leads:
        return
    file = pipeline.run.file(layout.network_file(same["key"], baseline=same["baseline"]))
    model = build.load_trained(
        pipeline.config, file, training.role, len(pipeline.data.classes), build.image_form(pipeline.data)
    )
    row = {**same, **training.describe(pipeline.config, model, source), "same_as": same["key"]}
    pipeline.progress.note(f"{row['name']}: the same training as {same['name']}, so it is not done again")
    copies = {layout.test_file(training.key): pipeline.run.file(layout.test_file(same["key"]))}
    average = pipeline.run.file(layout.test_file(layout.averaged_key(same["key"])))
    if average.exists():
        copies[layout.test_file(layout.averaged_key(training.key))] = average
    for name, answers in copies.items():
        pipeline.run.write_tensors(name, load_file(answers))
    pipeline.records.add_row(row)
    pipeline.run.mark_done(training.stage, files=list(copies))


def _finish(
    pipeline: Pipeline,
    training: Training,
    model: nn.Module,
    result: Result,
    row: dict[str, Any],
    *,
    again: bool = False,
    weights: Mapping[str, str] | None = None,
) -> None:
    if not pipeline.leads:
        return
    answers = [layout.test_file(training.key)]
    pipeline.run.write_tensors(answers[0], {"logits": result.logits, "labels": result.labels})
    if result.averaged_logits is not None:
        answers.append(layout.test_file(layout.averaged_key(training.key)))
        pipeline.run.write_tensors(answers[1], {"logits": result.averaged_logits, "labels": result.labels})
    pipeline.records.add_result(row, result, log=not again)
    pipeline.progress.result(training.stage, {"test_accuracy": result.accuracy})
    path = pipeline.run.file(training.file)
    path.parent.mkdir(exist_ok=True)
    extra: dict[str, Any] = {"data": pipeline.config.data.name, "classes": list(pipeline.data.classes)}
    if weights:
        extra["weights"] = dict(weights)
    describe = partial(network_info, pipeline.config, pipeline.data, pipeline.records.row(training.key))
    save_network(model, path, extra=extra, info=describe())
    files = [training.file]
    if result.averaged is not None:
        files.append(layout.averaged_file(training.key, baseline=training.baseline))
        save_network(result.averaged, pipeline.run.file(files[-1]), extra=extra, info=describe(averaged=True))
    made = [*answers, *files, *(str(Path(file).with_suffix(".json")) for file in files)]
    pipeline.run.mark_done(training.stage, files=made)
