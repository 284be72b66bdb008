"""`Distill`: the student learns from the labels and from a fixed teacher."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rolewise._roles import STUDENT
from rolewise.errors import InputError, InputTypeError, check_integer, unknown
from rolewise.kd.base import KDLoss, Outputs, TrainingImages, check_teacher, tap_names
from rolewise.kd.trial import try_network
from rolewise.objective.base import (
    Init,
    Labels,
    Objective,
    Placement,
    correct,
    factor,
    in_layout,
    with_own_format,
)
from rolewise.objective.clip import clip_and_add
from rolewise.objective.forward import Forward
from rolewise.own_code import is_from_own_code, own_errors, own_file
from rolewise.quant.layers import quantized_weights
from rolewise.seeds import derive_seed, torch_generator

Gradients = Sequence[Tensor | None]
LAMBDA_MODES = ("post_clip", "pre_clip", "ignored")


class Distill(Objective):
    """The student learns from labels and a fixed teacher: task_weight * CE + lambda * KD, the KD gradient clipped.

    Source: role-wise paper eq. 1 and 9; the clip is KD-SVD's (Lee et al., ECCV 2018): per parameter tensor the KD
    gradient is shrunk to norm(task gradient) * sigmoid(epoch). Lambda multiplies the clipped gradient: before the clip,
    which is usually active, it would change nothing, and its decay neither ("pre_clip" and "ignored" are there to
    compare with the authors' code).

    Args:
        teacher: network in eval mode; never changed.
        loss: distance between student and teacher.
        weight: lambda, no unit; None takes the loss's own, as `task_weight`, `decay` and `clip` do.
        task_weight: factor of the cross-entropy, no unit; 0 learns from the teacher alone, without labels and, since
            there is no task gradient to compare with, without the clip.
        lambda_mode: place where lambda enters, one of `LAMBDA_MODES`.
        decay_factor: factor of lambda at each milestone of the learning rate, if it decays.
        prepare_epochs: length of `loss.prepare`, at least 1.
    Raises:
        InputError: a teacher in training mode, a weight or a factor that is negative or not finite, taps that do not
            exist.
    """

    metrics: tuple[str, ...] = ("loss", "correct", "task", "kd", "kd_dropped")
    role: str | None = STUDENT
    init: Init = "given"
    supports_ddp: bool = True
    made_by_bind: tuple[str, ...] = (
        "_placement", "_taps", "_teacher_taps", "_teacher", "_lambda", "_sigmoid", "_forward", "_teacher_forward",
    )  # fmt: skip

    def __init__(
        self,
        teacher: nn.Module,
        loss: KDLoss,
        weight: float | None = None,
        *,
        task_weight: float | None = None,
        decay: bool | None = None,
        clip: bool | None = None,
        lambda_mode: str = "post_clip",
        decay_factor: float = 0.5,
        prepare_epochs: int = 40,
    ) -> None:
        if not isinstance(loss, KDLoss):
            raise InputTypeError(
                f"`loss` must be a KDLoss such as rolewise.kd.IIKD(), got {type(loss).__name__}."
            )
        check_teacher(teacher)
        self.teacher = teacher
        self.loss = loss
        self.weight = factor("weight", loss.weight if weight is None else weight)
        self.task_weight = factor("task_weight", loss.task_weight if task_weight is None else task_weight)
        if self.weight == self.task_weight == 0:
            raise InputError(
                "`weight` and `task_weight` are both 0, so nothing would be learned: give one of them more than 0."
            )
        self.decay = loss.decay if decay is None else decay
        if self.task_weight == 0 and clip:
            raise InputError(
                "`clip` bounds the KD gradient by the task's, which is 0 with `task_weight` 0: leave `clip` out, or "
                "False."
            )
        self.clip = (loss.clip and self.task_weight > 0) if clip is None else clip
        if lambda_mode not in LAMBDA_MODES:
            raise InputError(unknown("lambda_mode", lambda_mode, LAMBDA_MODES))
        self.lambda_mode = lambda_mode
        self.decay_factor = factor("decay_factor", decay_factor)
        self.prepare_epochs = check_integer("prepare_epochs", prepare_epochs, 1)

    def prepare(self, split: TrainingImages, *, seed: int, device: str | None = None) -> None:
        if self.loss.prepared:
            return
        home = next((tensor.device for tensor in self.teacher.parameters()), torch.device("cpu"))
        self.teacher.to(device or home)
        try:
            self.loss.prepare(
                self.teacher, split, epochs=self.prepare_epochs, seed=derive_seed(seed, "kd-prepare")
            )
        finally:
            self.teacher.to(home)
            self.loss.to(home)

    def bind(self, model: nn.Module, split: TrainingImages, placement: Placement, *, seed: int) -> None:
        check_teacher(self.teacher)
        self._placement = placement
        needs = self.loss.needs_features
        kind = self.loss.tap_kind
        self._taps = tap_names(model, self.loss.taps, kind=kind) if needs else ()
        self._teacher_taps = (
            tap_names(self.teacher, self.loss.teacher_taps, "teacher", kind=kind) if needs else ()
        )
        self._teacher = placement.place(_copied(self.teacher))
        for layer in quantized_weights(self._teacher).values():
            layer.freeze()  # a low-bit teacher's weights never change: they are quantized once, not at every step
        self._lambda = torch.tensor(self.weight, device=placement.device)
        self._sigmoid = torch.tensor(0.5, device=placement.device)
        self._build(model, split, seed)
        self._forward = Forward(model, self._taps, compiled=placement.compile)
        self._teacher_forward = Forward(
            self._teacher, self._teacher_taps, "teacher", compiled=placement.compile
        )
        self.loss.to(placement.device)

    def _build(self, model: nn.Module, split: TrainingImages, seed: int) -> None:
        """Shows the loss one small batch of both networks, so that it can make what depends on their sizes."""
        device = self._placement.device
        pixels = split.images[:4].to(device).permute(0, 3, 1, 2).float() / 255
        student = try_network(model, pixels, self._taps)
        teacher = try_network(self._teacher, pixels, self._teacher_taps, role="teacher")
        labels, ids = split.labels[:4].to(device), torch.arange(4, device=device)[: len(pixels)]
        self.loss.build(
            Outputs(student.logits, student.features, labels, ids),
            Outputs(teacher.logits, teacher.features, labels, ids),
            generator=torch_generator(seed, "kd-build"),
            images=len(split.images),
        )

    def check_mixing(self) -> None:
        if self.loss.needs_labels:
            raise InputError(
                f"{type(self.loss).__name__} compares images by their class or their place in the data set, which a "
                "mixed image does not have: leave `mixup` and `cutmix` off (None), or take another loss."
            )

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.loss.parameters() if parameter.requires_grad]

    def own_modules(self) -> list[nn.Module]:
        return [self.loss]

    def set_epoch(self, epoch: int, passed: int) -> None:
        self._lambda.fill_(self.weight * self.decay_factor**passed if self.decay else self.weight)
        sigmoid = 1 / (1 + math.exp(-epoch))
        self._sigmoid.fill_(1.0 if sigmoid > 1 - 1e-8 else sigmoid)

    def backward(
        self,
        model: nn.Module,
        images: Float[Tensor, "n c h w"],
        labels: Labels,
        ids: Int64[Tensor, " n"],
    ) -> Float[Tensor, " m"]:
        with self._placement.autocast():
            seen = self._forward.of(model)(images)
            with torch.no_grad():
                taught = self._teacher_forward(images)
        # A mixed image has no class and no place in the data set of its own.
        known = (labels, ids) if labels.ndim == 1 else (None, None)
        features = tuple(with_own_format(one) for one in seen.features)
        student = Outputs(seen.logits, features, *known).float()
        teacher = Outputs(taught.logits, taught.features, *known).float().detach()
        task = self.task(student.logits, labels)
        distance = self._distance(student, teacher)
        if self.clip:
            dropped = self._two_gradients(model, self.task_weight * task, distance)
        else:
            torch.autograd.backward(self.task_weight * task + self._lambda * distance)
            self._average([*model.parameters(), *self.parameters()])
            dropped = torch.zeros_like(task)
        task, distance = task.detach(), distance.detach()
        total = self.task_weight * task + self._lambda * distance
        return torch.stack((total, correct(seen.logits, labels), task, distance, dropped))

    def _distance(self, student: Outputs, teacher: Outputs) -> Tensor:
        """The loss's value; errors of your own code are reported with file and line.

        Raises:
            InputError: an error in own code, or a value that is no scalar with a gradient.
        """
        if not is_from_own_code(self.loss):
            value: Tensor = self.loss(student, teacher)
            return value
        path, name = own_file(self.loss), type(self.loss).__name__
        try:
            with own_errors(path, f"{name}.forward"):
                distance: Any = nn.Module.__call__(self.loss, student, teacher)
        except InputError as error:
            if student.labels is not None:
                raise
            raise InputError(
                f"{error}\nThe images are mixed (`mixup`, `cutmix`), so `labels` and `ids` are None. A loss that reads "
                "them says so with `needs_labels = True`, and trains with both off."
            ) from error
        came = None
        if not isinstance(distance, Tensor):
            came = f"a {type(distance).__name__}"
        elif distance.numel() != 1 or not distance.is_floating_point():
            came = f"a {distance.dtype} tensor of shape {tuple(distance.shape)}"
        elif not distance.requires_grad:
            came = "a number without a gradient (detached, or computed under no_grad)"
        if came is not None:
            raise InputError(
                f"{path}: {name}.forward must return one floating-point number with a gradient, a tensor of shape (), "
                f"got {came}."
            )
        found: Tensor = distance.reshape(())
        return found

    def _two_gradients(self, model: nn.Module, task: Tensor, distance: Tensor) -> Tensor:
        """Task gradient plus clipped KD gradient into `.grad`; returns how many KD gradients were dropped."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        own = self.parameters()
        task_gradients: Gradients = torch.autograd.grad(
            task, parameters, retain_graph=True, allow_unused=True
        )
        # Over several processes the clip compares the global gradients; the first are sent during the second pass.
        averaged_task = None if self.all_reduce_mean is None else self.all_reduce_mean(task_gradients)
        both: Gradients = torch.autograd.grad(distance, parameters + own, allow_unused=True)
        if self.all_reduce_mean is not None and averaged_task is not None:
            both, task_gradients = self.all_reduce_mean(both)(), averaged_task()
        kd_gradients, own_gradients = both[: len(parameters)], both[len(parameters) :]
        for parameter, gradient in zip(own, own_gradients, strict=True):
            parameter.grad = None if gradient is None else in_layout(self._lambda * gradient, parameter)
        combined, dropped = clip_and_add(
            task_gradients, kd_gradients, weight=self._lambda, sigmoid=self._sigmoid, mode=self.lambda_mode
        )
        for parameter, total in zip(parameters, combined, strict=True):
            parameter.grad = None if total is None else in_layout(total, parameter)
        return dropped

    def state(self) -> dict[str, Tensor]:
        return dict(self.loss.state_dict())

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.loss.load_state_dict(state)


def _copied(teacher: nn.Module) -> nn.Module:
    """A copy whose weights need no gradients; of a TorchScript module or one without weights the module itself.

    Raises:
        InputError: a network that cannot be copied.
    """
    if isinstance(teacher, torch.jit.ScriptModule) or next(teacher.parameters(), None) is None:
        return teacher  # its outputs are computed without gradients, and nothing here writes to it
    try:
        return copy.deepcopy(teacher).requires_grad_(False)
    except Exception as error:
        raise InputError(
            f"The teacher network {type(teacher).__name__} cannot be copied ({type(error).__name__}: {error}). A "
            "teacher can be any nn.Module that copy.deepcopy takes, or a TorchScript module."
        ) from error
