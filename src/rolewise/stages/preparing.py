"""A loss's own parts, trained on the teacher once, and kept for search, final training, baselines and resume."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rolewise._roles import STUDENT
from rolewise.config import Config
from rolewise.errors import InputError, Interrupted
from rolewise.kd.preparation import Preparation, watched
from rolewise.objective import Distill
from rolewise.pretrained import digest
from rolewise.runs import layout
from rolewise.trainer import torch_threads

if TYPE_CHECKING:
    from rolewise.stages.pipeline import Pipeline


def prepare(pipeline: "Pipeline", objective: Distill) -> None:
    """Trains the parts that `objective.loss` must have ready, or reads them where the run holds them.

    Raises:
        InputError: the file was changed since it was written.
    """
    if objective.loss.prepared:
        return
    run, about = pipeline.run, _about(pipeline.config, objective)
    path = run.file(layout.KD)
    if path.exists():
        run.verify(layout.KD)
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("about") == about:
                    objective.loss.restore({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
                    run.checkpoints(layout.PREPARE).clear()  # a kill may have come just before the end
                    return
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be read: {error}. Remove it, and it is made again.") from error
        pipeline.progress.note(
            f"{layout.KD} is another teacher's, loss's or seed's: the loss is prepared again"
        )
    settings = pipeline.settings(STUDENT)
    with pipeline.records.cost(layout.PREPARE), torch_threads(settings.threads), _watched(pipeline, about):
        objective.prepare(pipeline.data.train, seed=pipeline.config.seed, device=settings.device)
    run.write_tensors(layout.KD, objective.loss.state_dict(), {"about": about})
    run.mark_done(layout.PREPARE, files=[layout.KD])
    run.checkpoints(layout.PREPARE).clear()


@contextmanager
def _watched(pipeline: "Pipeline", about: str) -> Iterator[None]:
    """The preparation is shown, stops within a batch, and resumes from its newest checkpoint."""
    store, epochs = pipeline.run.checkpoints(layout.PREPARE), pipeline.config.kd.prepare_epochs
    found = store.latest()
    if found is not None and found.state["about"] != about:
        store.clear()
        found = None
    begun = 0 if found is None else found.step
    newest: dict[int, dict[str, Tensor]] = {}
    saved_at = time.monotonic()
    shown = begun

    def save() -> None:
        for epoch, state in newest.items():
            store.save(epoch, {"parts": state}, {"about": about})
        newest.clear()

    def epoch(done: int, state: dict[str, Tensor]) -> None:
        nonlocal saved_at, shown
        newest.clear()
        newest[done] = state
        pipeline.progress.epoch(done, {})
        shown = done
        if time.monotonic() - saved_at >= pipeline.config.machine.checkpoint_seconds:
            save()
            saved_at = time.monotonic()

    pipeline.progress.start(layout.PREPARE, epochs=epochs, images=len(pipeline.data.train), done=begun)
    watch = Preparation(
        batch=pipeline.progress.batch,
        epoch=epoch,
        should_stop=pipeline.should_stop,
        begun=begun,
        saved=None if found is None else found.tensors("parts"),
    )
    try:
        with watched(watch):
            yield
    except Interrupted:
        save()
        raise
    if shown < epochs:  # a loss need not report its last one
        pipeline.progress.epoch(epochs, {})
    pipeline.progress.finish()


def _about(config: Config, objective: Distill) -> str:
    """All that the parts depend on; one text, for safetensors writes several in an order that differs."""
    kd = config.kd
    about = {
        "teacher": digest(objective.teacher),
        "loss": kd.loss,
        "arguments": kd.arguments,
        "variant": kd.variant,
        "prepare_epochs": kd.prepare_epochs,
        "seed": config.seed,
    }
    return json.dumps(about, sort_keys=True)
