"""A training step that is recorded once and repeated by the device alone: on a GPU a CUDA graph.

A `Trainer`'s step has static shapes, waits for nothing, and reads learning rate, lambda and sigmoid(epoch) from the
device (`tests/trainer/test_capturable.py`), so one recording serves a whole training, and every member of a search:
batches and states are copied into the recorded ones' place. Measured on one GPU: `docs/performance.md`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from rolewise.errors import first_line
from rolewise.objective import Placement
from rolewise.trainer.feed import Batch
from rolewise.trainer.generators import own_generators
from rolewise.trainer.loop import Trainer

_WARM_UP = 3  # steps before the recording: the optimizer's moments are made, algorithms chosen, caches filled
_AGREES = 0.02  # relative difference of the loss that rounding may make


class Recorder(ABC):
    """Makes of a step one that can be repeated."""

    @abstractmethod
    def warm_up(self, step: Callable[[], None]) -> None:
        """Takes `step` where it will be recorded, and waits for it."""

    @abstractmethod
    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Records `step`, which may be taken once by it or not; returns what repeats it.

        Raises:
            RuntimeError: the step cannot be recorded.
        """


class GraphRecorder(Recorder):
    """Records a CUDA graph on the current stream, or on a stream of its own where the current one is the default.

    Warm-up and recording share the stream, as gradients are accumulated on the stream of the forward pass.
    """

    def __init__(self) -> None:
        current = torch.cuda.current_stream()
        default = current == torch.cuda.default_stream()
        self._stream = torch.cuda.Stream() if default else current  # type: ignore[no-untyped-call]

    def warm_up(self, step: Callable[[], None]) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            step()
        self._stream.synchronize()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those that feed, may pin memory meanwhile: mode "global" would forbid it.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            step()
        return graph.replay


class NoRecorder(Recorder):
    """Records nothing: the step is called. For devices without graphs."""

    def warm_up(self, step: Callable[[], None]) -> None:
        step()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        return step


class LiveTensors:
    """The tensors that a training depends on, where they are; copied in and out at once, without a wait.

    Args:
        tensors: `Trainer.tensors()`, once the optimizer has its moments.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        self._groups: dict[torch.dtype, list[str]] = {}
        for name, tensor in self.tensors.items():
            self._groups.setdefault(tensor.dtype, []).append(name)

    def empty(self) -> dict[str, Tensor]:
        """Room for a copy, on the same device and in the same memory format."""
        return {name: torch.empty_like(tensor) for name, tensor in self.tensors.items()}

    def copy_to(self, room: Mapping[str, Tensor]) -> None:
        """Copies all tensors into `room`."""
        for names in self._groups.values():
            torch._foreach_copy_([room[name] for name in names], [self.tensors[name] for name in names])

    def copy_from(self, given: Mapping[str, Tensor]) -> None:
        """Copies `given` into the tensors; those that it lacks (moments before the first step) become zero."""
        for names in self._groups.values():
            near = [
                name for name in names if name in given and given[name].device == self.tensors[name].device
            ]
            if near:
                torch._foreach_copy_([self.tensors[name] for name in near], [given[name] for name in near])
            for name in names:
                if name not in given:
                    self.tensors[name].zero_()
                elif name not in near:
                    send(given[name], self.tensors[name])


def send(source: Tensor, target: Tensor) -> None:
    """Copies a tensor of the CPU to where `target` is, without a wait."""
    target.copy_(Placement(target.device).pin(source), non_blocking=True)


class RecordedStep:
    """One trainer's step, recorded; called with a batch, it repeats.

    Args:
        trainer: trainer in training mode, the numbers of its epoch set (`Trainer.begin_epoch`); its state is unchanged
            afterwards.
        batch: batch whose shapes and types all batches have.
        recorder: recorder of the step.

    Raises:
        RuntimeError: the step cannot be recorded, or a repetition gives another loss than the step itself.
    """

    def __init__(self, trainer: Trainer, batch: Batch, recorder: Recorder) -> None:
        self._batch = Batch(batch.images.clone(), batch.labels.clone(), batch.ids.clone())
        # A recording uses memory by address: what the trainer holds must stay, even when the trainer is gone.
        self._alive = {name: part for name, part in vars(trainer).items() if name != "recorded"}
        before = {name: tensor.detach().clone() for name, tensor in trainer.tensors().items()}
        try:
            sums = self._warm_up(trainer, recorder, before["sums"])
            trainer.optimizer.zero_grad(set_to_none=True)  # the recording makes gradients in its own memory
            self._repeat = recorder.record(lambda: trainer.train_step(self._batch))
            LiveTensors(trainer.tensors()).copy_from(before)
            self._repeat()
            self._check(sums, trainer.tensors()["sums"] - before["sums"])
        finally:
            LiveTensors(trainer.tensors()).copy_from(before)

    def _warm_up(self, trainer: Trainer, recorder: Recorder, sums: Tensor) -> Tensor:
        """Some steps that are not recorded; returns the metrics of the first one."""
        recorder.warm_up(lambda: trainer.train_step(self._batch))
        first = trainer.tensors()["sums"] - sums
        for _ in range(_WARM_UP - 1):
            recorder.warm_up(lambda: trainer.train_step(self._batch))
        return first

    def _check(self, expected: Tensor, found: Tensor) -> None:
        one, other = float(expected[0]), float(found[0])
        if abs(one - other) > _AGREES * abs(one):
            raise RuntimeError(f"the recorded step gives the loss {other:.6g} instead of {one:.6g}")

    def __call__(self, batch: Batch) -> None:
        """Takes a step; on a GPU it is under way when this returns."""
        for place, tensor in (
            (self._batch.images, batch.images),
            (self._batch.labels, batch.labels),
            (self._batch.ids, batch.ids),
        ):
            place.copy_(tensor, non_blocking=True)
        self._repeat()


def record(trainer: Trainer, recorder: Recorder | None = None) -> str | None:
    """Lets a trainer take its steps from a recording, from now on.

    Args:
        trainer: trainer, fresh or in any state, which it keeps.
        recorder: recorder of the step; None takes the device's.

    Returns:
        Why the trainer stays as it was; None if it is recorded.
    """
    if trainer.group is not None:
        return "several processes share the batches"
    if not trainer.settings.record_steps:
        return "`record_steps` is off"
    if trainer.settings.compile:
        return "the networks are compiled"
    if trainer.rung is not None:
        return "the bits of the network change along a ladder"
    if recorder is None:
        if trainer.placement.device.type != "cuda":
            return f'the device "{trainer.placement.device.type}" records nothing'
        recorder = GraphRecorder()
    trainer.begin_epoch()
    batches = trainer.feeder.batches(0, None)
    try:
        with own_generators(trainer.placement.device):
            trainer.recorded = RecordedStep(trainer, next(batches), recorder)
    except RuntimeError as error:
        return first_line(error)
    finally:
        batches.close()
    return None
