"""What an objective is, where networks run, and the objective without a teacher."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise._roles import STUDENT, TEACHER
from rolewise.errors import InputError, InputTypeError
from rolewise.kd.base import TrainingImages
from rolewise.objective.forward import Forward
from rolewise.quant import quantization

# The classes of a batch, or the probabilities of the classes where images are mixed.
Labels = Int64[Tensor, " n"] | Float[Tensor, "n k"]
Init = Literal["random", "given"]
INITS: tuple[Init, ...] = get_args(Init)
# Begins to average gradients over the processes of a training; the function that it returns waits for the result.
Average = Callable[[Sequence[Tensor | None]], Callable[[], list[Tensor | None]]]


@dataclass(frozen=True)
class Placement:
    """Where and in which precision networks run.

    Args:
        device: device of the networks and the batches.
        precision: "fp32", or "bf16" for autocast.
        channels_last: memory format of convolutions.
        compile: True calls networks through torch.compile in the training step.
    """

    device: torch.device
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which networks are called."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def place(self, model: nn.Module) -> nn.Module:
        """`model` on this device, in this memory format (in place)."""
        model.to(self.device)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def pin(self, tensor: Tensor) -> Tensor:
        """A CPU tensor in memory that the GPU copies by itself; `tensor` without a GPU, or where it is there."""
        if self.device.type != "cuda" or tensor.is_cuda:
            return tensor
        with torch.cuda.device(
            self.device
        ):  # pinning opens a context on the thread's current GPU, which is 0
            return tensor.pin_memory()

    def send(self, tensor: Tensor) -> Tensor:
        """`tensor` on this device; the host does not wait for the copy of a tensor that `pin` gave."""
        return tensor.to(self.device, non_blocking=True)

    def wait(self) -> None:
        """Returns when this device has finished all its work; needed to measure time."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the batches; autocast would cast them to it anyway."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


class Objective(ABC):
    """Forward and backward of a batch; called as `prepare`, `bind`, per epoch `set_epoch`, per batch `backward`.

    A subclass defines `bind` and `backward`; the other methods are hooks that do nothing unless it defines them.

    Attributes:
        metrics: names of what `backward` returns.
        role: role whose settings its network is trained with; None: a quantized one is a student, others teachers.
        init: initial weights of the members of a search: each its own ("random"), or all the given ones ("given").
        supports_ddp: True if `backward` averages its gradients with `all_reduce_mean`.
        class_weights: factors of the classes' task losses, set by a trainer.
        all_reduce_mean: function that averages gradients, set by a trainer whose batches are shared among processes.
        label_smoothing: part of the task's target that is uniform; set by a trainer, before `bind`.
        set_by_trainer: names of the attributes that a trainer sets; they stay behind when the objective is copied.
        made_by_bind: names of the attributes that `bind` makes; they stay behind when the objective is copied.
    """

    metrics: tuple[str, ...] = ("loss", "correct")
    role: str | None = None
    init: Init = "random"
    supports_ddp: bool = False
    class_weights: Tensor | None = None
    all_reduce_mean: Average | None = None
    label_smoothing: float = 0.0
    set_by_trainer: ClassVar[tuple[str, ...]] = ("class_weights", "all_reduce_mean", "label_smoothing")
    made_by_bind: tuple[str, ...] = ()

    def role_of(self, model: nn.Module) -> str:
        """The role of `model` under this objective: "teacher" or "student"."""
        if self.role is not None:
            return self.role
        return TEACHER if quantization(model) is None else STUDENT

    def __getstate__(self) -> dict[str, Any]:
        """Without what `bind` and a trainer made: it is made again wherever the copy is used."""
        left_out = {*self.set_by_trainer, *self.made_by_bind}
        return {key: value for key, value in self.__dict__.items() if key not in left_out}

    def prepare(self, split: TrainingImages, *, seed: int, device: str | None = None) -> None:  # noqa: B027
        """Trains what must be ready before the student is trained (once; search, final run and resume share it).

        Args:
            split: training images.
            seed: base seed of every random stream.
            device: device to compute on; None is wherever the networks are. They are back there afterwards.
        """

    @abstractmethod
    def bind(self, model: nn.Module, split: TrainingImages, placement: Placement, *, seed: int) -> None:
        """Makes everything that depends on the network and the device."""

    def check_mixing(self) -> None:  # noqa: B027
        """Raises InputError if batches of mixed images (Mixup, CutMix) cannot be learned from."""

    def parameters(self) -> list[nn.Parameter]:
        """The objective's own parameters that are trained with the network."""
        return []

    def own_modules(self) -> list[nn.Module]:
        """The modules of the objective's own that see the batches in training mode."""
        return []

    def set_epoch(self, epoch: int, passed: int) -> None:  # noqa: B027
        """The 0-based epoch that begins, and how many milestones of the learning rate lie behind it."""

    @abstractmethod
    def backward(
        self,
        model: nn.Module,
        images: Float[Tensor, "n c h w"],
        labels: Labels,
        ids: Int64[Tensor, " n"],
    ) -> Float[Tensor, " m"]:
        """Leaves the gradients in `.grad`; returns the batch's `metrics` (means over it; `correct` is a count)."""

    def task(self, logits: Float[Tensor, "n k"], labels: Labels) -> Float[Tensor, ""]:
        """The task loss of a batch, with this objective's label smoothing and class weights; see `task_loss`."""
        return task_loss(logits, labels, self.label_smoothing, self.class_weights)

    def _average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Averages what lies in `.grad` over the processes, if there are several."""
        if self.all_reduce_mean is None:
            return
        held = [parameter for parameter in parameters if parameter.grad is not None]
        for parameter, gradient in zip(held, self.all_reduce_mean([p.grad for p in held])(), strict=True):
            parameter.grad = gradient

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint needs."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Takes back `state()`, in place."""


class CrossEntropy(Objective):
    """Cross-entropy with the labels: a teacher's objective, and a student's that has no teacher."""

    supports_ddp: bool = True
    made_by_bind: tuple[str, ...] = ("_placement", "_forward")

    def bind(self, model: nn.Module, split: TrainingImages, placement: Placement, *, seed: int) -> None:
        self._placement = placement
        self._forward = Forward(model, compiled=placement.compile)

    def backward(
        self,
        model: nn.Module,
        images: Float[Tensor, "n c h w"],
        labels: Labels,
        ids: Int64[Tensor, " n"],
    ) -> Float[Tensor, " m"]:
        with self._placement.autocast():
            logits = self._forward.of(model)(images).logits
        loss = self.task(logits.float(), labels)
        torch.autograd.backward(loss)
        self._average(model.parameters())
        return torch.stack((loss.detach(), correct(logits, labels)))


def task_loss(
    logits: Float[Tensor, "n k"],
    labels: Labels,
    smoothing: float = 0.0,
    class_weights: Float[Tensor, " k"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy with classes, or with the probabilities of mixed images; the mean over all images.

    With class weights each image's loss is multiplied by the weight of its class, of a mixed image by the mean of its
    classes' weights. The sum is divided by the number of images, not of weights, so that parts of a batch can be
    averaged. With balanced weights, whose mean over the training images is 1, both are the same on average.

    Args:
        logits: logits in float32.
        labels: see `Labels`.
        smoothing: part of the target that is spread evenly over all classes (Szegedy et al., CVPR 2016).
        class_weights: factors by class; None for none.
    """
    if class_weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    factors = class_weights[labels] if labels.ndim == 1 else labels @ class_weights
    return (each * factors).mean()


def correct(logits: Tensor, labels: Labels) -> Tensor:
    """Number of the batch's images that are classified correctly (a scalar on the device).

    A mixed image counts as one of its larger part.
    """
    classes = labels if labels.ndim == 1 else labels.argmax(1)
    return (logits.argmax(1) == classes).sum().float()


def checked(objective: object) -> Objective:
    """`objective`, or `CrossEntropy()` for None.

    Raises:
        InputTypeError: it is no objective.
    """
    if objective is None:
        return CrossEntropy()
    if not isinstance(objective, Objective):
        raise InputTypeError(
            f"`objective` must be an objective such as CrossEntropy() or Distill(...), got {type(objective).__name__}."
        )
    return objective


def in_layout(gradient: Tensor, parameter: Tensor) -> Tensor:
    """`gradient` in the memory format of `parameter`, as fused optimizers need: they go through both as memory lies."""
    found = [
        g == p for g, p, n in zip(gradient.stride(), parameter.stride(), gradient.shape, strict=True) if n > 1
    ]
    return gradient if all(found) else torch.empty_like(parameter).copy_(gradient)


class _ChannelsLast(torch.autograd.Function):
    """The same map; its gradient in channels last."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last)


def with_own_format(x: Tensor) -> Tensor:
    """`x`, whose gradient has the memory format of `x`, whatever format a loss gives it.

    Where formats differ, a sum takes six times as long on a CPU and the backward pass of a ReLU thirty times.
    """
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    if not (last and x.requires_grad):
        return x
    found: Tensor = _ChannelsLast.apply(x)  # type: ignore[no-untyped-call]
    return found


def factor(name: str, value: float) -> float:
    """`value` as a finite float of at least 0, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputTypeError(f"`{name}` must be a number of at least 0, got {value!r}.")
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"`{name}` must be a finite number of at least 0, got {value}.")
    return float(value)
