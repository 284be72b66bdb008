"""The members of a search on one device: their states stay there, and are swapped in and out by copies on it."""

import weakref
from collections.abc import Mapping

import torch
from torch import Tensor

from rolewise.population.runner import Runner, SearchSpec, make_trainer, reinitialize
from rolewise.trainer import State, Trainer
from rolewise.trainer.generators import generators, own_generators
from rolewise.trainer.recorded import LiveTensors, Recorder, record, send


class MemberBank:
    """Room for states on the device; what nothing refers to any more is used again.

    A state is never written to while something refers to it, so an exploit is a second reference to the source's.
    """

    def __init__(self) -> None:
        self._free: list[dict[str, Tensor]] = []
        self._initial: dict[int, dict[str, Tensor]] = {}
        self.made = 0

    def draw(self, spec: SearchSpec, member: int) -> None:
        """Draws the weights that a member begins with, on the CPU, and keeps them until `initial` takes them.

        It uses torch's global generator, so nothing else may draw from it meanwhile.
        """
        reinitialize(spec.model, spec.seed, "init", spec.role, member)
        self._initial[member] = {name: tensor.clone() for name, tensor in spec.model.state_dict().items()}

    def initial(self, spec: SearchSpec, member: int) -> dict[str, Tensor]:
        """The weights that a member begins with."""
        if member not in self._initial:
            self.draw(spec, member)
        return self._initial.pop(member)

    def store(self, live: LiveTensors, info: Mapping[str, int]) -> State:
        """A copy of a trainer's tensors as a state."""
        try:
            room = self._free.pop()
        except IndexError:
            room = live.empty()
            self.made += 1
        live.copy_to(room)
        state = State(dict(room), dict(info))
        weakref.finalize(state, self._free.append, room).atexit = False
        return state


class ResidentRunner(Runner):
    """A runner whose states, validation images and recorded step stay on the trainer's device.

    Args:
        spec: specification that all members share.
        bank: room for the states, shared by all runners of the device.
        recorder: recorder of the step; None takes the device's.
        feed_threads: number of threads that augment for this runner.

    Attributes:
        eager_because: why the step is not recorded; None if it is.
        draws: whether a step draws from torch's own generators, as dropout does.
    """

    def __init__(
        self, spec: SearchSpec, bank: MemberBank, *, recorder: Recorder | None, feed_threads: int
    ) -> None:
        self.spec, self._bank = spec, bank
        self.trainer = make_trainer(spec)
        self.trainer.feed_threads = feed_threads
        self.trainer.set_member(None)
        begun = {name: tensor.detach().clone() for name, tensor in self.trainer.tensors().items()}
        self.eager_because = record(self.trainer, recorder)
        self.draws = _take_step(self.trainer)
        self._live = LiveTensors(self.trainer.tensors())
        self._live.copy_from(begun)
        self._fresh = bank.store(self._live, {"epoch": 0, "step": 0})
        self.validation = spec.validation.to(self.trainer.placement.device)

    def load_member(self, member: int, state: State | None) -> Trainer:
        trainer = self.trainer
        trainer.set_member(member)
        self._live.copy_from((state or self._fresh).tensors)
        info = (state or self._fresh).info
        trainer.epoch, trainer.step = int(info["epoch"]), int(info["step"])
        if state is None and self.spec.init == "random":
            for name, tensor in self._bank.initial(self.spec, member).items():
                send(tensor, self._live.tensors[f"model.{name}"])
        return trainer

    def take_state(self) -> State:
        return self._bank.store(self._live, {"epoch": self.trainer.epoch, "step": self.trainer.step})

    def is_finite(self, state: State) -> bool:
        weights = [tensor for tensor in state.part("model").values() if tensor.is_floating_point()]
        return bool(torch.stack([torch.isfinite(tensor).all() for tensor in weights]).all())  # one read

    def exchange(self) -> None:
        self._live.copy_from(self.take_state().tensors)


def _take_step(trainer: Trainer) -> bool:
    """Takes a step, whose effect is undone by the caller; returns whether it drew from torch's own generators.

    It also makes the optimizer's moments, of which states consist.
    """
    trainer.begin_epoch()
    batches = trainer.feeder.batches(0, None)
    device = trainer.placement.device
    with own_generators(device):
        before = [generator.get_state() for generator in generators(device)]
        trainer.train_step(next(batches))
        after = [generator.get_state() for generator in generators(device)]
    batches.close()
    return not all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
