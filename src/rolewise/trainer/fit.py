"""`train()`, and `fit()`, on which it and the pipeline's stages are built: epochs, log, checkpoints, resume."""

import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor, nn

from rolewise._roles import STUDENT
from rolewise.augment import BasePolicy, Schedule
from rolewise.data import Data, Split, check_data
from rolewise.errors import InputError, Interrupted, RunError, first_line
from rolewise.kd.preparation import Preparation, watched
from rolewise.objective import Objective, checked
from rolewise.progress import Progress
from rolewise.runs import OpenRun, RunDirectory, layout, open_run
from rolewise.settings import TrainOptions, check_names
from rolewise.trainer.checks import check_schedule
from rolewise.trainer.evaluation import EpochMetrics
from rolewise.trainer.identity import check_identity, training_identity
from rolewise.trainer.loop import Trainer
from rolewise.trainer.parallel import Group, join
from rolewise.trainer.recorded import record
from rolewise.trainer.settings import TrainSettings, student_settings, teacher_settings, torch_threads
from rolewise.trainer.state import State
from rolewise.trainer.training_log import TrainingLog


@dataclass(frozen=True)
class Result:
    """Result of a training.

    Args:
        accuracy: accuracy on the test images after the last epoch, a fraction.
        loss: mean cross-entropy there.
        n: number of test images.
        batch_statistics: the same accuracy with batch normalization over each test batch, as the authors' release
            measured; to compare with the paper's numbers alone. None where the network cannot be measured so.
        precision: precision of the training, "fp32" or "bf16"; the test is always in float32, as exported files
            compute.
        logits: logits of the test images (n, k), float32.
        labels: labels of the test images (n,).
        history: one entry per epoch: `epoch` (completed), `loss`, `accuracy` on the augmented training images, ...
        averaged: the network with the averaged weights, if `ema_decay` or `ema_epochs` requests one.
        averaged_accuracy: its accuracy on the test images.
        best_epoch: the epoch with the highest accuracy on the held-out images, the first of equal ones, if there
            are held-out images and a run directory.
        best_accuracy: accuracy on the test images after that epoch.
        averaged_logits: `logits` of the network with the averaged weights.
    """

    accuracy: float
    loss: float
    n: int
    batch_statistics: float | None
    precision: str
    logits: Tensor = field(repr=False, compare=False)
    labels: Tensor = field(repr=False, compare=False)
    history: list[dict[str, float]] = field(repr=False)
    averaged: nn.Module | None = field(default=None, repr=False, compare=False)
    averaged_accuracy: float | None = None
    best_epoch: int | None = None
    best_accuracy: float | None = None
    averaged_logits: Tensor | None = field(default=None, repr=False, compare=False)


def train(
    model: nn.Module,
    data: Data,
    *,
    objective: Objective | None = None,
    augment: Schedule | None = None,
    epochs: int,
    seed: int = 0,
    settings: TrainSettings | None = None,
    validation: Split | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **changes: Unpack[TrainOptions],
) -> Result:
    """Trains `model` in place on all training images, tests it once after the last epoch, leaves it in eval mode.

    Under `torchrun` all processes call it alike and share the batches; the first one writes.

    Args:
        model: a teacher, or a student made by `quantize` or otherwise.
        data: data set, from `load_data` for instance.
        objective: `CrossEntropy()` (the default) or `Distill(teacher, loss)`.
        augment: a schedule of exactly `epochs` policies; None is random crop and flip alone.
        epochs: length of the training.
        seed: base seed of order, augmentation and the loss's own parts.
        settings: all numbers of the training; None takes the paper's: SGD for a 32-bit network without a teacher,
            Adam for a student: a quantized network, or any under `Distill` or `MutualLearning`.
        validation: held-out images; then each epoch is validated and, with `out`, the best one tested as well.
        out: folder for log and checkpoints; an interrupted training there resumes with `resume=True`.
        resume: see `out`.
        progress: listener for batches, epochs and the result; see `rolewise.progress.Progress`.
        changes: single fields of `TrainSettings`, such as `batch_size=64`.

    Raises:
        InputError: a schedule of another length (`.stretch` makes it fit), settings that cannot be.
        RunError: the training diverged.
        Interrupted: a signal came and `out` holds the state.
    """
    check_data(data)
    objective = checked(objective)
    role = objective.role_of(model)
    defaults = student_settings if role == STUDENT else teacher_settings
    check_names(changes, train, TrainSettings)
    chosen = replace(defaults(epochs) if settings is None else settings, **changes)
    if chosen.epochs != epochs:
        raise InputError(f"`epochs` is {epochs}, but `settings.epochs` is {chosen.epochs}.")
    check_schedule(augment, epochs)
    group = join(chosen.device)
    about = training_identity(model, data, objective, augment, chosen, seed=seed, role=role)
    with torch_threads(chosen.threads), ExitStack() as stack:
        opened = _open(stack, out, resume=resume, config=about, group=group)
        watch = Preparation(should_stop=opened.should_stop)
        with watched(watch):
            objective.prepare(data.train, seed=seed, device=chosen.resolved().device)
        trainer = Trainer(
            model,
            objective,
            data.train,
            chosen,
            seed=seed,
            role=role,
            should_stop=opened.should_stop,
            progress=progress,
            group=group,
        )
        history = fit(trainer, augment, run=opened.directory, identity=about, validation=validation)
        last = None if augment is None else augment[epochs - 1]
        best = None if validation is None else best_state(opened.directory)
        result = final_test(trainer, data.test, history, policy=last, best=best)
        trainer.progress.result(layout.TRAIN, {"test_accuracy": result.accuracy})
        return result


def final_test(
    trainer: Trainer,
    split: Split,
    history: list[dict[str, float]],
    *,
    policy: BasePolicy | None = None,
    best: State | None = None,
) -> Result:
    """The only evaluation on the test images, after the last epoch.

    It is in float32 whatever the training's precision: low-bit networks round activations at steps, so a bfloat16
    test differs from what an exported file computes. The network stays in the trainer's memory format.

    Args:
        trainer: trainer after its last epoch, whose network is tested and left in eval mode.
        split: test images.
        history: entries of the epochs.
        policy: policy of the last epoch, under which the statistics of averaged weights are estimated.
        best: state after the epoch that was best on held-out images, which is tested too.
    """
    placement = replace(trainer.placement, precision="fp32", compile=False)
    measure = partial(trainer.evaluate, split, placement=placement)
    measured = measure(keep_logits=True)
    assert measured.logits is not None
    batch: float | None
    try:
        batch = measure(batch_statistics=True).accuracy
    except RunError:
        raise
    except (RuntimeError, ValueError) as error:  # a figure for comparisons alone must not cost the training
        trainer.progress.note(f"no accuracy with batch statistics: {first_line(error)}")
        batch = None
    averaged = trainer.averaged(policy) if trainer.average is not None and history else None
    average = None if averaged is None else measure(model=averaged, keep_logits=True)
    best_epoch = best_accuracy = None
    if best is not None:
        last = trainer.state()
        trainer.load_state(best)
        try:
            best_epoch, best_accuracy = trainer.epoch, measure().accuracy
        finally:
            trainer.load_state(last)
    trainer.model.eval()
    return Result(
        measured.accuracy,
        measured.loss,
        measured.n,
        batch,
        trainer.placement.precision,
        measured.logits,
        split.labels,
        history,
        averaged,
        None if average is None else average.accuracy,
        best_epoch,
        best_accuracy,
        None if average is None else average.logits,
    )


def best_state(run: RunDirectory | None, stage: str = layout.TRAIN) -> State | None:
    """The state after the epoch of a stage that was best on held-out images; None without a run or such an epoch."""
    found = None if run is None else run.checkpoints(stage).best()
    return None if found is None else State(found.tensors("trainer"), found.state["trainer"])


def fit(
    trainer: Trainer,
    augment: Schedule | None,
    *,
    run: RunDirectory | None = None,
    stage: str = layout.TRAIN,
    identity: Mapping[str, Any] | None = None,
    validation: Split | None = None,
    save_seconds: float = 30.0,
) -> list[dict[str, float]]:
    """Trains to the end of the settings' epochs, logging each; with a run directory, from its newest checkpoint on.

    Args:
        trainer: fresh; its state is replaced by the checkpoint's if there is one.
        augment: one policy per epoch, or None.
        run: run directory with the log and `checkpoints/<stage>`.
        stage: name of the checkpoints and of the log's entries.
        identity: all that the result depends on; a checkpoint of another training is refused.
        validation: held-out images, evaluated after each epoch; the best one's checkpoint is kept. On a ladder, only
            epochs of its last rung count.
        save_seconds: minimum seconds between checkpoints (0: one after every epoch).

    Returns:
        One entry per epoch.
    """
    epochs = trainer.settings.epochs
    log = TrainingLog(trainer, run, stage, identity)
    log.resume()
    if trainer.placement.device.type == "cuda" and (reason := record(trainer)) is not None:
        trainer.progress.note(f"Steps are not recorded, which is slower: {reason}.")
    if trainer.group is not None:
        trainer.group.check_same("epoch and step", trainer.epoch, trainer.step)
    trainer.progress.start(
        stage, epochs=epochs, images=trainer.steps * trainer.settings.batch_size, done=trainer.epoch
    )
    saved = time.monotonic()
    best = max(
        (entry["validation_accuracy"] for entry in log.history if _counts(entry, trainer)), default=-1.0
    )
    metrics = log.unfinished
    while metrics is not None or trainer.epoch < epochs:
        try:
            if metrics is None:
                metrics = trainer.train_epoch(None if augment is None else augment[trainer.epoch])
            measured = None if validation is None else trainer.evaluate(validation)
        except Interrupted:
            log.save(unfinished=metrics)
            if trainer.group is not None:
                trainer.group.barrier()  # where one process ends, torchrun stops the others, writing or not
            raise
        _check_finite(metrics, trainer)
        log.epoch(metrics, measured)
        metrics = None
        improved = _counts(log.history[-1], trainer) and log.history[-1]["validation_accuracy"] > best
        best = log.history[-1]["validation_accuracy"] if improved else best
        if improved or time.monotonic() - saved >= save_seconds or trainer.epoch == epochs:
            log.save(best=improved)
            saved = time.monotonic()
    trainer.progress.finish()
    return log.history


def _counts(entry: Mapping[str, float], trainer: Trainer) -> bool:
    """Whether an epoch may be the best one: it was validated, with the bits of the final network."""
    settings = trainer.settings
    rung = settings.bits_at(int(entry["epoch"]) - 1)
    return "validation_accuracy" in entry and (rung is None or rung == settings.ladder[-1])


def _check_finite(metrics: EpochMetrics, trainer: Trainer) -> None:
    if not metrics.finite:
        raise RunError(
            f"The {trainer.role}'s training diverged in epoch {trainer.epoch}: the loss is {metrics.loss}. "
            f"The learning rate was {trainer.settings.lr_at(trainer.epoch - 1):g}; try a lower one."
        )


def _open(
    stack: ExitStack, out: str | Path | None, *, resume: bool, config: dict[str, Any], group: Group | None
) -> OpenRun:
    """The run directory of one `train`: the first process makes or opens it, the others read what it wrote."""
    follows = group is not None and group.rank != 0
    with nullcontext() if group is None else group.rank_zero_first():
        opened = stack.enter_context(open_run(out, {"train": config}, resume=resume, read_only=follows))
    if opened.directory is not None:
        check_identity(opened.directory.config.get("train", config), config, opened.directory.path)
    return opened
