"""What a training writes into its run directory: log lines and checkpoints, consistent after a crash."""

from collections.abc import Mapping
from typing import Any

from rolewise.runs import CheckpointStore, RunDirectory
from rolewise.trainer.evaluation import EpochMetrics, Evaluation
from rolewise.trainer.identity import check_identity
from rolewise.trainer.loop import Trainer
from rolewise.trainer.state import State


class TrainingLog:
    """Log lines and checkpoints of one training; without a run, or in one that is read only, nothing is written.

    Args:
        trainer: trainer whose epochs are logged.
        run: the open run directory, or None.
        stage: name of the checkpoints, and of the stage in every line.
        identity: all that the result depends on; a checkpoint that was saved under another is refused.

    Attributes:
        history: one entry for each epoch that is over.
        unfinished: metrics of an epoch whose validation was interrupted, after `resume`; None where there is none.
    """

    def __init__(
        self,
        trainer: Trainer,
        run: RunDirectory | None,
        stage: str,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.trainer, self.run, self.stage, self.identity = trainer, run, stage, identity
        self.store: CheckpointStore | None = None if run is None else run.checkpoints(stage)
        self.history: list[dict[str, float]] = []
        self.unfinished: EpochMetrics | None = None

    def epoch(self, metrics: EpochMetrics, measured: Evaluation | None) -> None:
        """Adds an epoch that is over, and its validation where there is one."""
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
        if self.run is not None and not self.run.read_only:
            for split, values in lines:
                self.run.append_metrics(
                    stage=self.stage, role=trainer.role, member=None, split=split, **values
                )

    def save(self, *, best: bool = False, unfinished: EpochMetrics | None = None) -> None:
        """Writes a checkpoint; `unfinished` are the metrics of an epoch that is trained and not validated yet."""
        if self.store is None or self.run is None or self.run.read_only:
            return
        state = self.trainer.state()
        information: dict[str, Any] = {
            "trainer": state.info,
            "history": self.history,
            "marks": self.run.marks(),
            "threads": self.trainer.settings.threads,
            "identity": self.identity,
        }
        if unfinished is not None:
            information["unfinished"] = unfinished.values
        step = state.info["epoch"] * self.trainer.steps + state.info["step"]
        self.store.save(step, {"trainer": state.tensors}, information, best=best)

    def resume(self) -> None:
        """Brings the trainer to the newest checkpoint, if there is one, and the logs to where they were then."""
        if self.store is None or self.run is None:
            return
        found = self.store.latest()
        if found is not None:
            saved = found.state.get("identity")
            if saved is not None and self.identity is not None:
                check_identity(saved, self.identity, self.run.path)
            self.trainer.load_state(State(found.tensors("trainer"), found.state["trainer"]))
            self.history = list(found.state["history"])
            if "unfinished" in found.state:
                self.unfinished = EpochMetrics(found.state["unfinished"])
        if not self.run.read_only and not self.run.done(self.stage):  # a complete one is only tested again
            self.run.rewind(None if found is None else found.state["marks"], stage=self.stage)
        if found is not None and found.state["threads"] != self.trainer.settings.threads:
            self.trainer.progress.note(
                f"resumed with {self.trainer.settings.threads} threads instead of {found.state['threads']}: "
                "the result may differ in the last bits from an uninterrupted run's"
            )
