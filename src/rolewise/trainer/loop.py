"""`Trainer`: one epoch under one policy, an evaluation, the whole state. Teacher, student and members use it."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rolewise.data import Split
from rolewise.errors import InputError, Interrupted
from rolewise.objective import Objective, Placement
from rolewise.objective.moments import load_optimizer, optimizer_tensors
from rolewise.progress import Progress
from rolewise.quant import weight_codes
from rolewise.seeds import derive_seed
from rolewise.trainer.average import WeightAverage, estimate_statistics
from rolewise.trainer.checks import check_classes, check_shared
from rolewise.trainer.classes import class_weights
from rolewise.trainer.evaluation import EpochMetrics, Evaluation, evaluate
from rolewise.trainer.feed import Batch, Feeder, feeding_threads
from rolewise.trainer.generators import generators, own_generators
from rolewise.trainer.ladder import set_rung
from rolewise.trainer.levels import LevelChanges
from rolewise.trainer.memory import keep_freed_memory
from rolewise.trainer.optimizer import clip_gradient, make_optimizer, set_lr
from rolewise.trainer.parallel import Group
from rolewise.trainer.settings import TrainSettings
from rolewise.trainer.state import State, plain


class Trainer:
    """Trains one network under one objective.

    Nothing in an epoch waits for the device. The order of the images, their augmentation and the learning rate are
    functions of (seed, role, member, epoch), so `state()` is all that a resumed training needs, even in mid-epoch.

    Args:
        model: trained in place, moved to the settings' device.
        objective: forward and backward of a batch; already prepared.
        split: training images; their mean and std normalize whatever this trainer evaluates.
        settings: numbers of the training.
        seed: base seed of every random stream.
        role: "teacher" or "student".
        member: number within a population; None outside a search.
        should_stop: polled before every batch; if it returns True, `Interrupted` is raised with the state intact.
        progress: receives every batch.
        group: the processes that share each batch, see `rolewise.trainer.parallel`; None is this one alone.
    Raises:
        InputError: fewer images than one batch, or another number of classes than the network gives; a batch or an
            objective that cannot be shared.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        split: Split,
        settings: TrainSettings,
        *,
        seed: int = 0,
        role: str = "teacher",
        member: int | None = None,
        should_stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
        group: Group | None = None,
    ) -> None:
        if len(split) < settings.batch_size:
            raise InputError(
                f"`batch_size` is {settings.batch_size}, but there are only {len(split)} training images: "
                f"choose a batch of at most {len(split)}."
            )
        self.settings = settings.resolved()
        if group is not None:
            check_shared(objective, self.settings, group)
        self.placement = self.settings.placement()
        if self.placement.device.type == "cpu":
            keep_freed_memory()
        self.model = self.placement.place(model)
        self.objective, self.split, self.seed, self.role = objective, split, seed, role
        self.progress = progress or Progress()
        self.should_stop = should_stop or (lambda: False)
        check_classes(self.model, split, self.placement.device, role=role)
        objective.class_weights = class_weights(settings.class_weights, split, self.placement.device)
        objective.label_smoothing = self.settings.label_smoothing
        if self.settings.mixing is not None:
            objective.check_mixing()
        objective.bind(self.model, split, self.placement, seed=seed)
        self.optimizer = make_optimizer(self.model, objective.parameters(), self.settings)
        self.epoch, self.step = 0, 0
        self._sums = torch.zeros(len(objective.metrics), dtype=torch.float64, device=self.placement.device)
        self.recorded: Callable[[Batch], None] | None = (
            None  # takes the steps, see `rolewise.trainer.recorded`
        )
        self.feed_threads = feeding_threads(self.placement.device)
        self.group = group
        if group is not None:
            self._join(group)
        self.average = WeightAverage.of(self.model, self.settings)
        counted = self.settings.count_level_changes and weight_codes(self.model)
        self.levels = LevelChanges(self.model) if counted else None
        self.rung: int | None = None
        self._set_rung()
        self.set_member(member)

    def _join(self, group: "Group") -> None:
        """Makes every process start from the first one's network, and stop after the same batch."""
        group.broadcast_([*self.model.state_dict().values(), *self.objective.state().values()])
        self.objective.all_reduce_mean = group.all_reduce_mean
        stop = self.should_stop
        self.should_stop = lambda: group.all_reduce_stop(stop())

    def _set_rung(self) -> None:
        """Gives the quantizers the bits of this epoch's rung of the ladder, if there is one."""
        rung = self.settings.bits_at(self.epoch)
        if rung is not None and rung != self.rung:
            set_rung(self.model, rung, self.settings.ladder, self.average)
        self.rung = rung

    def set_member(self, member: int | None) -> None:
        """Continues as another member of the population: its order of images, its augmentation."""
        self.member = member
        share = None if self.group is None else self.group.share(self.settings.batch_size)
        key = self.seed, self.role, member
        self.feeder = Feeder(self.split, self.settings, self.placement, key, share, threads=self.feed_threads)

    @property
    def steps(self) -> int:
        """Number of steps in one epoch."""
        return self.feeder.steps

    def train_epoch(self, policy: Any = None) -> EpochMetrics:
        """One epoch (the rest of it, after an interruption) under `policy`; None is crop and flip alone.

        Every module is put into training mode, also one that its owner had put into eval mode: a frozen batch
        normalization uses and updates the statistics of the batches.

        Raises:
            Interrupted: `should_stop` returned True; call again, or save `state()` and resume.
        """
        self.begin_epoch()
        if self.levels is not None and self.step == 0:
            self.levels.begin()
        take = self.train_step if self.recorded is None else self.recorded
        shared = nullcontext() if self.group is None else self.group.batch_norms(self._modules)
        with shared, own_generators(self.placement.device):
            for batch in self.feeder.batches(self.epoch, policy, self.step):
                if self.should_stop():
                    self._gather()
                    raise Interrupted(
                        f"stopped in epoch {self.epoch + 1} after {self.step} of {self.steps} steps"
                    )
                self._key_generators()
                take(batch)
                self.step += 1
                self.progress.batch(self.settings.batch_size)
        self._gather()
        return self._end_epoch()

    def begin_epoch(self) -> None:
        """Training mode, and the numbers of the current epoch where the step reads them."""
        self.model.train()
        self._set_rung()
        set_lr(self.optimizer, self.settings.lr_at(self.epoch))
        self.objective.set_epoch(self.epoch, self.settings.passed(self.epoch))

    def _key_generators(self) -> None:
        """Keys torch's own generators by the step, for networks and losses that draw from them, such as dropout."""
        rank = 0 if self.group is None else self.group.rank
        key = derive_seed(self.seed, self.role, self.member, "step", self.epoch, self.step, rank)
        for generator in generators(self.placement.device):
            generator.manual_seed(key)

    @property
    def _modules(self) -> list[nn.Module]:
        return [self.model, *self.objective.own_modules()]

    def _gather(self) -> None:
        """The epoch's metrics so far are those of all processes' parts; `correct` is the mean part's count."""
        if self.group is not None:
            self.group.mean_(self._sums)

    def train_step(self, batch: Batch) -> None:
        """Forward, backward, update; no wait for the device."""
        self.optimizer.zero_grad(set_to_none=True)
        self._sums += self.objective.backward(self.model, batch.images, batch.labels, batch.ids)
        if self.settings.grad_clip is not None:
            clip_gradient(self.optimizer, self.settings.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.after_step()

    def _end_epoch(self) -> EpochMetrics:
        sums = dict(zip(self.objective.metrics, self._sums.tolist(), strict=True))
        images = self.steps * self.settings.batch_size
        if self.group is not None:
            sums["correct"] *= self.group.size
        values = {name: value / self.steps for name, value in sums.items() if name != "correct"}
        values["accuracy"] = sums["correct"] / images
        self._sums.zero_()
        if self.average is not None:
            self.average.after_epoch(self.epoch, self.settings.epochs)
        if self.levels is not None:
            values["level_changes"] = self.levels.share()
        self.epoch, self.step = self.epoch + 1, 0
        return EpochMetrics(values)

    def averaged(self, policy: Any = None) -> nn.Module:
        """A copy of the network with the averaged weights, in eval mode.

        Its batch normalization has the statistics of the last epoch's batches, augmented as they were for training.

        Args:
            policy: policy of the last epoch.
        Raises:
            InputError: the settings request no average.
            Interrupted: `should_stop` returned True; nothing has changed.
        """
        if self.average is None:
            raise InputError("There is no average of the weights: set `ema_decay` or `ema_epochs`.")
        model = self.average.applied(self.model)
        batches = self.feeder.batches(max(0, self.epoch - 1), policy)
        with nullcontext() if self.group is None else self.group.batch_norms([model]):
            estimate_statistics(model, batches, self.placement, should_stop=self.should_stop)
        return model.eval()

    def evaluate(
        self,
        split: Split,
        *,
        model: nn.Module | None = None,
        placement: Placement | None = None,
        batch_statistics: bool = False,
        keep_logits: bool = False,
    ) -> Evaluation:
        """Accuracy and loss on `split`, normalized as the training images are; see `rolewise.trainer.evaluate`.

        `model`: another network than the trained one, such as `averaged()`.
        """
        return evaluate(
            model or self.model,
            split,
            mean=self.split.mean,
            std=self.split.std,
            placement=placement or self.placement,
            batch=self.settings.eval_batch,
            batch_statistics=batch_statistics,
            keep_logits=keep_logits,
            should_stop=self.should_stop,
            group=self.group,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that training depends on, themselves, named as in a `State`."""
        parts = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "objective": self.objective.state(),
        }
        parts |= {name: part.state() for name, part in self._extra_parts().items()}
        tensors = {
            f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()
        }
        return {**tensors, "sums": self._sums}

    def state(self) -> State:
        """A copy of everything that training depends on."""
        near = {name: t if t.is_cuda else plain(t) for name, t in self.tensors().items()}
        rung = {} if self.rung is None else {"rung": self.rung}
        return State(near, {"epoch": self.epoch, "step": self.step, **rung}).host()

    def _extra_parts(self) -> dict[str, WeightAverage | LevelChanges]:
        """What some settings add to the state."""
        found = {"average": self.average, "levels": self.levels}
        return {name: part for name, part in found.items() if part is not None}

    def load_state(self, state: State) -> None:
        """Takes back a `state()`; in place where the step is recorded, so that the recording stays valid."""
        if self.rung is not None:
            self.rung = int(state.info["rung"])
            set_rung(self.model, self.rung, self.settings.ladder, None, rescale=False)
        self.model.load_state_dict(state.part("model"))
        load_optimizer(self.optimizer, state.part("optimizer"), in_place=self.recorded is not None)
        self.objective.load_state(state.part("objective"))
        for name, part in self._extra_parts().items():
            part.load_state(state.part(name))
        self._sums.copy_(state.tensors["sums"])
        self.epoch, self.step = int(state.info["epoch"]), int(state.info["step"])
