"""`train()`, and `fit()` on which it and the stages of the pipeline stand: epochs, log, checkpoints, resume."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from rolewise.augment import Schedule
from rolewise.data import Data, Split, check_data
from rolewise.errors import InputError, InputTypeError, Interrupted, RunError, unknown
from rolewise.objective import CrossEntropy, Distill, Objective
from rolewise.progress import Progress
from rolewise.quant import quantization
from rolewise.runs import CheckpointStore, RunDirectory, StopFlag
from rolewise.trainer.evaluation import Evaluation
from rolewise.trainer.follower import Follower
from rolewise.trainer.loop import EpochMetrics, Trainer
from rolewise.trainer.parallel import Group, join
from rolewise.trainer.settings import TrainSettings, student_settings, teacher_settings, torch_threads
from rolewise.trainer.state import State


@dataclass(frozen=True)
class Result:
    """What a training gave.

    Args:
        accuracy: on the test images after the last epoch, a fraction.
        loss: mean cross-entropy there.
        n: number of test images.
        batch_statistics: the same accuracy with batch normalisation over each test batch, as the authors' release
            measured; to compare with the paper's numbers alone.
        history: one entry per epoch: `epoch` (completed), `loss`, `accuracy` on the augmented training images, ...
    """

    accuracy: float
    loss: float
    n: int
    batch_statistics: float
    history: list[dict[str, float]] = field(repr=False)


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
    **changes: Any,
) -> Result:
    """Trains `model` in place on all training images, tests it once after the last epoch, leaves it in eval mode.

    Under `torchrun` all processes call it alike and share the batches; the first one writes.

    Args:
        model: a teacher, or a student made by `quantize` or otherwise.
        data: from `load_data`.
        objective: `CrossEntropy()` (the default) or `Distill(teacher, loss)`.
        augment: a schedule of exactly `epochs` policies; None is random crop and flip alone.
        epochs: length of the training.
        seed: of order, augmentation and the loss's own parts.
        settings: all numbers of the training; None takes the paper's: SGD for a 32-bit network without a teacher,
            Adam for a quantized one and for any student of `Distill`.
        validation: held-out images; then each epoch is validated and the best checkpoint kept.
        out: a folder for log and checkpoints; there an interrupted training goes on with `resume=True`.
        resume: see `out`.
        progress: is told of every batch and epoch.
        changes: single fields of `TrainSettings`, such as `batch_size=64`.

    Raises:
        InputError: a schedule of another length (`.stretch` makes it fit), settings that cannot be.
        RunError: the training diverged.
        Interrupted: a signal came and `out` holds the state.
    """
    check_data(data)
    student = isinstance(objective, Distill) or quantization(model) is not None
    defaults = student_settings if student else teacher_settings
    chosen = _changed(settings, changes) if settings is not None else _changed(defaults(epochs), changes)
    if chosen.epochs != epochs:
        raise InputError(f"`epochs` is {epochs}, but `settings.epochs` is {chosen.epochs}.")
    check_schedule(augment, epochs)
    objective = objective or CrossEntropy()
    role = "student" if student else "teacher"
    group = join(chosen.device)
    with (
        torch_threads(chosen.threads),
        _Output(out, resume, {"epochs": epochs, "seed": seed, "role": role}, group) as output,
    ):
        objective.prepare(data.train, seed=seed, device=chosen.resolved().device)
        trainer = Trainer(
            model,
            objective,
            data.train,
            chosen,
            seed=seed,
            role=role,
            should_stop=output.should_stop,
            progress=progress,
            group=group,
        )
        history = fit(trainer, augment, run=output.run, stage="train", validation=validation)
        return test(trainer, data.test, history)


def test(trainer: Trainer, split: Split, history: list[dict[str, float]]) -> Result:
    """The one look at the test images, after the last epoch."""
    measured = trainer.evaluate(split)
    batch = trainer.evaluate(split, batch_statistics=True)
    trainer.model.eval()
    return Result(measured.accuracy, measured.loss, measured.n, batch.accuracy, history)


def fit(
    trainer: Trainer,
    augment: Schedule | None,
    *,
    run: RunDirectory | None = None,
    stage: str = "train",
    validation: Split | None = None,
    save_seconds: float = 30.0,
) -> list[dict[str, float]]:
    """Trains to the end of the settings' epochs, logging each; with a run directory, from its newest checkpoint on.

    Args:
        trainer: fresh; its state is replaced by the checkpoint's if there is one.
        augment: one policy per epoch, or None.
        run: where the log and `checkpoints/<stage>` are.
        stage: name of the checkpoints and of the log's entries.
        validation: held-out images, evaluated after each epoch.
        save_seconds: at least so much time lies between two checkpoints (0: one after every epoch).

    Returns:
        One entry per epoch.
    """
    epochs = trainer.settings.epochs
    log = _Log(trainer, run, run.checkpoints(stage) if run else None, stage)
    log.resume()
    if trainer.group is not None:
        trainer.group.check_same("epoch and step", trainer.epoch, trainer.step)
    trainer.progress.start(
        stage, epochs=epochs, images=trainer.steps * trainer.settings.batch_size, done=trainer.epoch
    )
    saved = time.monotonic()
    best = max((entry.get("validation_accuracy", 0.0) for entry in log.history), default=0.0)
    while trainer.epoch < epochs:
        try:
            metrics = trainer.train_epoch(None if augment is None else augment[trainer.epoch])
            measured = None if validation is None else trainer.evaluate(validation)
        except Interrupted:
            log.save()
            if trainer.group is not None:
                trainer.group.barrier()  # where one process ends, torchrun stops the others, writing or not
            raise
        _check_finite(metrics, trainer)
        log.epoch(metrics, measured)
        improved = measured is not None and measured.accuracy > best
        best = measured.accuracy if improved and measured is not None else best
        if improved or time.monotonic() - saved >= save_seconds or trainer.epoch == epochs:
            log.save(best=improved)
            saved = time.monotonic()
    trainer.progress.finish()
    return log.history


def check_schedule(augment: Schedule | None, epochs: int) -> None:
    """Checks that there is exactly one policy per epoch."""
    if augment is None:
        return
    if not isinstance(augment, Schedule):
        raise InputTypeError(
            f"`augment` must be a Schedule or None, got {type(augment).__name__}. "
            "A policy for all epochs: Schedule.constant(policy, epochs)."
        )
    if len(augment) != epochs:
        raise InputError(
            f"`augment` holds {len(augment)} epochs, but the training has {epochs}: "
            f"augment.stretch({epochs}) makes it fit."
        )


class _Log:
    """Log lines and checkpoints of one training; both tell the same story after any kill."""

    def __init__(
        self, trainer: Trainer, run: RunDirectory | None, store: CheckpointStore | None, stage: str
    ) -> None:
        self.trainer, self.run, self.store, self.stage = trainer, run, store, stage
        self.history: list[dict[str, float]] = []

    def epoch(self, metrics: EpochMetrics, measured: Evaluation | None) -> None:
        trainer = self.trainer
        entry: dict[str, float] = {"epoch": trainer.epoch, "lr": trainer.settings.lr_at(trainer.epoch - 1)}
        entry.update(metrics.values)
        lines = [("train", dict(entry))]
        if measured is not None:
            entry.update(validation_accuracy=measured.accuracy, validation_loss=measured.loss)
            lines.append(
                ("validation", {"epoch": trainer.epoch, "accuracy": measured.accuracy, "loss": measured.loss})
            )
        self.history.append(entry)
        trainer.progress.epoch(trainer.epoch, entry)
        if self.run is not None:
            for split, values in lines:
                self.run.append_metrics(
                    stage=self.stage, role=trainer.role, member=None, split=split, **values
                )

    def save(self, *, best: bool = False) -> None:
        group = self.trainer.group
        if self.store is None or self.run is None or (group is not None and group.rank != 0):
            return
        state = self.trainer.state()
        information = {
            "trainer": state.info,
            "history": self.history,
            "marks": self.run.marks(),
            "threads": self.trainer.settings.threads,
        }
        step = state.info["epoch"] * self.trainer.steps + state.info["step"]
        self.store.save(step, {"trainer": state.tensors}, information, best=best)

    def resume(self) -> None:
        if self.store is None or self.run is None:
            return
        found = self.store.latest()
        if found is None:
            self.run.rewind()
            return
        self.trainer.load_state(State(found.tensors("trainer"), found.state["trainer"]))
        self.history = list(found.state["history"])
        self.run.rewind(found.state["marks"])
        if found.state["threads"] != self.trainer.settings.threads:
            self.trainer.progress.note(
                f"resumed with {self.trainer.settings.threads} threads instead of {found.state['threads']}: "
                "the result may differ in the last bits from an uninterrupted run's"
            )


def _check_finite(metrics: EpochMetrics, trainer: Trainer) -> None:
    if not metrics.finite:
        raise RunError(
            f"The {trainer.role}'s training diverged in epoch {trainer.epoch}: the loss is {metrics.loss}. "
            f"The learning rate was {trainer.settings.lr_at(trainer.epoch - 1):g}; try a lower one."
        )


def _changed(settings: TrainSettings, changes: dict[str, Any]) -> TrainSettings:
    known = [one.name for one in fields(TrainSettings)]
    for name in changes:
        if name not in known:
            raise InputError(unknown("setting of a training", name, known))
    return replace(settings, **changes)


class _Output:
    """A run directory with its stop flag for the time of one `train`, or nothing where no folder was named."""

    def __init__(
        self, out: str | Path | None, resume: bool, config: dict[str, Any], group: Group | None
    ) -> None:
        self.run: RunDirectory | None = None
        self.should_stop: Callable[[], bool] | None = None
        self._flag: StopFlag | None = None
        if out is not None:
            with nullcontext() if group is None else group.in_turn():
                if group is not None and group.rank != 0:
                    self.run = Follower(out)
                else:
                    self.run = (
                        RunDirectory.open(Path(out)) if resume else RunDirectory.create(Path(out), config)
                    )

    def __enter__(self) -> "_Output":
        if self.run is not None:
            self._flag = StopFlag()
            self._flag.__enter__()
            flag = self._flag
            self.should_stop = lambda: flag.requested
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._flag is not None:
            self._flag.__exit__(*exception)
        if self.run is not None:
            self.run.close()
