"""A training step as a CUDA graph. Unmeasured so far; nothing of the package uses it.

A `Trainer`'s step has static shapes and reads learning rate, lambda and sigmoid(epoch) from the device
(`tests/trainer/test_capturable.py`), so one recording of it serves the whole training: other batches are copied into
the recorded one's place. Several members of a population are replayed in turn, on one stream or several.
`tests/benchmarks/test_gpu_graph.py` runs all of it on the CPU, a tape in the graph's place.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import gpu_imports  # noqa: F401 - first: what follows may need its stand-in
import torch

from rolewise.trainer import Batch, State, Trainer
from rolewise.trainer.state import load_model

_step, _load = Trainer.train_step, Trainer.load_state


class GraphedStep:
    """One trainer's step; called with a batch, it replays.

    Args:
        trainer: in training mode, its epoch set; its state is afterwards what it was before.
        batch: shows shapes and types.
        stream: that the step is recorded on, and replayed unless a call names another; None takes one of its own.
        warmup: steps before the recording.
    Raises:
        RuntimeError: CUDA cannot record the step.
    """

    def __init__(
        self, trainer: Trainer, batch: Batch, *, stream: torch.cuda.Stream | None = None, warmup: int = 3
    ) -> None:
        self.batch = Batch(batch.images.clone(), batch.labels.clone(), batch.ids.clone())
        self.stream = stream or torch.cuda.Stream()
        before = trainer.state()
        try:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                for _ in range(warmup):  # makes the optimizer's moments, chooses algorithms, fills caches
                    _step(trainer, self.batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            torch.cuda.synchronize()
            trainer.optimizer.zero_grad(set_to_none=True)  # the recording makes gradients in its own memory
            self.graph = torch.cuda.CUDAGraph()
            # "thread_local": the feeding thread pins memory meanwhile, which would break a recording that is "global".
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                _step(trainer, self.batch)
        finally:
            torch.cuda.synchronize()
            restore(trainer, before)

    def __call__(self, batch: Batch, stream: torch.cuda.Stream | None = None) -> None:
        """Takes the step, which is under way when this returns; see `wait`."""
        self.stream = stream or self.stream
        self.stream.wait_stream(torch.cuda.current_stream())  # the batch may still be on its way
        with torch.cuda.stream(self.stream):
            for place, tensor in (
                (self.batch.images, batch.images),
                (self.batch.labels, batch.labels),
                (self.batch.ids, batch.ids),
            ):
                place.copy_(tensor, non_blocking=True)
                if tensor.is_cuda:
                    tensor.record_stream(self.stream)  # else its memory might be given away before it is read
            self.graph.replay()

    def wait(self) -> None:
        """The current stream continues when the replay is done."""
        torch.cuda.current_stream().wait_stream(self.stream)


def restore(trainer: Trainer, state: State) -> None:
    """`Trainer.load_state`, but every tensor stays where it lies, as a recorded step needs.

    Moments that the state does not have, because no step was taken yet, become zero, with which the first step is the
    same as without them.
    """
    if any(name.startswith("optimizer.") for name in state.tensors):
        _load(trainer, state)
        return
    load_model(trainer.model, state.part("model"))
    trainer.objective.load_state(state.part("objective"))
    trainer._sums.copy_(state.tensors["sums"])
    trainer.epoch, trainer.step = int(state.info["epoch"]), int(state.info["step"])
    for slot in trainer.optimizer.state.values():
        for moment in slot.values():
            if isinstance(moment, torch.Tensor):
                moment.zero_()


@contextmanager
def graphed_trainers() -> Iterator[list[str]]:
    """While the context lasts, every `Trainer` records its first step and replays it from then on.

    One recording serves a whole search: its worker has one trainer, which takes the place of every member.

    Yields:
        Why trainers stayed eager, a sentence for each that did.
    """
    steps: weakref.WeakKeyDictionary[Trainer, GraphedStep | None] = weakref.WeakKeyDictionary()
    reasons: list[str] = []

    def train_step(trainer: Trainer, batch: Batch) -> None:
        if trainer not in steps:
            try:
                steps[trainer] = GraphedStep(trainer, batch)
            except RuntimeError as error:
                steps[trainer] = None
                reasons.append(f"eager: {str(error).splitlines()[0]}")
        graphed = steps[trainer]
        if graphed is None:
            _step(trainer, batch)
            return
        graphed(batch)
        graphed.wait()

    Trainer.train_step, Trainer.load_state = train_step, restore  # type: ignore[method-assign]
    try:
        yield reasons
    finally:
        Trainer.train_step, Trainer.load_state = _step, _load  # type: ignore[method-assign]
