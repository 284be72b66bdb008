"""What the members of a search have in common, and the one trainer of a worker, which takes the place of any."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rolewise.data import Split
from rolewise.errors import InputError
from rolewise.objective import Init, Objective
from rolewise.seeds import derive_seed, torch_generator
from rolewise.trainer import State, Trainer, TrainSettings
from rolewise.trainer.recorded import record


@dataclass(frozen=True)
class SearchSpec:
    """Everything that the members of one search have in common.

    Args:
        model: network, on the CPU; the search owns this copy.
        objective: objective of all members, already prepared.
        train: images that members train on.
        validation: held-out training images that members are scored on.
        settings: numbers of the training, resolved, one thread.
        seed, role: key, with the member's id, of order, augmentation and initial weights.
        init: "random" or "given", see `rolewise.search`.
        trainer: class, or function of the same signature, that makes a `Trainer`.
    """

    model: nn.Module
    objective: Objective
    train: Split
    validation: Split
    settings: TrainSettings
    seed: int
    role: str
    init: Init
    trainer: Callable[..., Trainer] = Trainer


def make_trainer(spec: SearchSpec) -> Trainer:
    """A trainer for the members of a search, with a network and an objective of its own."""
    model, objective = copy.deepcopy(spec.model), copy.deepcopy(spec.objective)
    make = {"seed": spec.seed, "role": spec.role, "member": None}
    return spec.trainer(model, objective, spec.train, spec.settings, **make)


class Runner(ABC):
    """A worker's one trainer, into which the member of each job is loaded.

    Attributes:
        spec: specification that all members share.
        trainer: the trainer.
        validation: images that members are scored on, where the trainer wants them.
    """

    spec: SearchSpec
    trainer: Trainer
    validation: Split

    @abstractmethod
    def load_member(self, member: int, state: State | None) -> Trainer:
        """The trainer with `member` loaded, at `state` or at its beginning."""

    @abstractmethod
    def take_state(self) -> State:
        """The trainer's state, which later steps do not change."""

    @abstractmethod
    def is_finite(self, state: State) -> bool:
        """Whether all weights of a state are finite."""

    @abstractmethod
    def exchange(self) -> None:
        """Takes the state out and loads it again, as between two jobs."""


class HostRunner(Runner):
    """A runner whose states are in the memory of the CPU, so that they can travel."""

    def __init__(self, spec: SearchSpec) -> None:
        self.spec, self.validation = spec, spec.validation
        self.trainer = make_trainer(spec)
        if spec.settings.device.startswith("cuda"):
            record(self.trainer)
        self._fresh = self.trainer.state()

    def load_member(self, member: int, state: State | None) -> Trainer:
        self.trainer.set_member(member)
        if state is not None:
            self.trainer.load_state(state)
            return self.trainer
        self.trainer.load_state(self._fresh)
        if self.spec.init == "random":
            template = self.spec.model  # this process's own copy, on the CPU
            reinitialize(template, self.spec.seed, "init", self.spec.role, member)
            self.trainer.model.load_state_dict(template.state_dict())
        return self.trainer

    def take_state(self) -> State:
        return self.trainer.state()

    def is_finite(self, state: State) -> bool:
        return all(bool(torch.isfinite(tensor).all()) for tensor in state.part("model").values())

    def exchange(self) -> None:
        self.trainer.load_state(State.from_bytes(self.trainer.state().to_bytes()))


def reinitialize(model: nn.Module, *key: int | str | None) -> None:
    """Redraws all weights of `model`, in place, from the stream of `key`; every buffer is as at the start.

    A network with `reset(generator)` does it itself; otherwise each layer's `reset_parameters` is called,
    inner ones first, with torch's global generator seeded for that time alone.

    Args:
        model: network on the CPU, so that the same key gives the same weights wherever it is trained.
        key: key of the random stream, such as (seed, "init", role, member).

    Raises:
        InputError: a layer that has parameters and neither of the two methods.
    """
    reset = _own_reset(model)
    if reset is not None:
        reset(torch_generator(*key))
        return
    check_resettable(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*key))

        def redraw(module: nn.Module) -> None:
            method = getattr(module, "reset_parameters", None)
            if callable(method):
                method()

        model.apply(redraw)


def check_resettable(model: nn.Module) -> None:
    """Checks that all weights can be redrawn.

    Raises:
        InputError: a layer that has parameters but neither `reset(generator)` nor `reset_parameters`; all are
        named.
    """
    if _own_reset(model) is not None:
        return
    faults = [
        f'"{name}" ({type(module).__name__})' if name else type(module).__name__
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
        and not callable(getattr(module, "reset_parameters", None))
    ]
    if faults:
        raise InputError(
            f"Members of a search begin with weights of their own, but {type(model).__name__} has no "
            f"`reset(generator)` and these layers no `reset_parameters`: {', '.join(faults)}. "
            'Write one of the two, or let all members begin with the given weights: init="given".'
        )


def _own_reset(model: nn.Module) -> Callable[[torch.Generator], Any] | None:
    reset = getattr(model, "reset", None)
    return reset if callable(reset) else None
