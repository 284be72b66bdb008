"""How a network is trained: the numbers of one training, and what is chosen from the machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rolewise.errors import InputError, check_integer
from rolewise.objective import Placement
from rolewise.trainer.evaluation import default_batch


@dataclass(frozen=True)
class TrainSettings:
    """The numbers of one training (method: role-wise paper, section 5.1).

    Args:
        epochs: length, >= 1.
        batch_size: images a step; what is left over at the end of an epoch is dropped.
        optimizer: "sgd" (Nesterov momentum) or "adam" (eps 1e-5).
        lr: learning rate at the start.
        momentum: of SGD.
        weight_decay: factor of the L2 term in the gradient.
        decay_scope: "all" parameters, or "weights" of convolutions and linear layers only.
        milestones: fractions of the training at which the learning rate is multiplied by `lr_factor`.
        lr_factor: see there.
        crop: pixels of zero padding (in normalised space) before the random crop; 0: none.
        flip: random horizontal flip.
        cutout: side in pixels of a zero square; 0: none.
        eval_batch: images a batch of an evaluation; None: what suits the device.
        precision: "fp32", "bf16" or "auto" (bf16 where the processor computes in it).
        channels_last: memory format of convolutions; None: where bf16 is used or on a GPU.
        compile: torch.compile of the networks in the training step (a minute of compiling at the start).
        device: "cpu", "cuda" or "cuda:1".
        threads: of torch on a CPU; members of a search always use one.
    """

    epochs: int
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_scope: Literal["all", "weights"] = "all"
    milestones: tuple[float, ...] = (0.3, 0.6, 0.9)
    lr_factor: float = 0.1
    crop: int = 4
    flip: bool = True
    cutout: int = 0
    eval_batch: int | None = None
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    channels_last: bool | None = None
    compile: bool = False
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, 1)
        check_integer("batch_size", self.batch_size, 2)
        if self.eval_batch is not None:
            check_integer("eval_batch", self.eval_batch, 1)
        check_integer("crop", self.crop, 0)
        check_integer("cutout", self.cutout, 0)
        check_integer("threads", self.threads, 1)
        for name, allowed in (
            ("optimizer", ("sgd", "adam")),
            ("decay_scope", ("all", "weights")),
            ("precision", ("fp32", "bf16", "auto")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"`{name}` must be one of {allowed}, got {getattr(self, name)!r}.")
        for name in ("lr", "lr_factor"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"`{name}` must be a finite number above 0, got {getattr(self, name)}.")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(
                f"`weight_decay` must be a finite number of at least 0, got {self.weight_decay}."
            )
        if any(not 0 < m <= 1 for m in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise InputError(f"`milestones` must be ascending fractions in (0, 1], got {self.milestones}.")

    def resolved(self) -> "TrainSettings":
        """With what the machine decides written down, so that a resume elsewhere computes the same way.

        Raises:
            InputError: a device that is not there.
        """
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise InputError(f'`device` is "{device}", but PyTorch sees no CUDA device. Use "cpu" or "auto".')
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if _computes_bf16(torch.device(device)) else "fp32"
        layout = self.channels_last
        if layout is None:
            layout = precision == "bf16" or torch.device(device).type == "cuda"
        batch = self.eval_batch or default_batch(torch.device(device))
        return replace(self, device=device, precision=precision, channels_last=layout, eval_batch=batch)

    def placement(self) -> Placement:
        """Where and how the networks run."""
        settings = self.resolved()
        precision: Literal["fp32", "bf16"] = "bf16" if settings.precision == "bf16" else "fp32"
        return Placement(
            torch.device(settings.device), precision, bool(settings.channels_last), settings.compile
        )

    def passed(self, epoch: int) -> int:
        """How many milestones lie at or before the 0-based `epoch`."""
        return sum(epoch >= round(fraction * self.epochs) for fraction in self.milestones)

    def lr_at(self, epoch: int) -> float:
        """The learning rate in the 0-based `epoch`."""
        return self.lr * self.lr_factor ** self.passed(epoch)


def teacher_settings(epochs: int = 200, **changes: Any) -> TrainSettings:
    """The paper's settings of 32-bit training without a teacher."""
    return replace(TrainSettings(epochs), **changes)


def student_settings(epochs: int = 200, **changes: Any) -> TrainSettings:
    """The paper's settings of low-bit students: Adam, weight decay on weights alone."""
    base = TrainSettings(epochs, optimizer="adam", lr=1e-3, weight_decay=1e-5, decay_scope="weights")
    return replace(base, **changes)


def make_optimizer(
    model: nn.Module, own: list[nn.Parameter], settings: TrainSettings
) -> torch.optim.Optimizer:
    """The optimizer, fused, its learning rate a tensor on the device (so that a captured step sees it change)."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            weight = name == "weight" and isinstance(module, nn.Conv2d | nn.Linear)
            if parameter.requires_grad:
                (decayed if weight or settings.decay_scope == "all" else free).append(parameter)
    (decayed if settings.decay_scope == "all" else free).extend(own)
    device = torch.device(settings.device)
    groups = [
        {"params": parameters, "weight_decay": decay, "lr": torch.tensor(settings.lr, device=device)}
        for parameters, decay in ((decayed, settings.weight_decay), (free, 0.0))
        if parameters
    ]
    if not groups:
        raise InputError(f"{type(model).__name__} has no parameters to train.")
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True)
    # eps: the role-wise release's; it matters where gradients are tiny, as behind a clipped activation.
    capturable = device.type == "cuda"
    return torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-5, fused=True, capturable=capturable)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Writes the learning rate into the tensors that the optimizer holds."""
    for group in optimizer.param_groups:
        rate: Tensor = group["lr"]
        rate.fill_(lr)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch computes with `count` threads while the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _computes_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is in the hardware; without it autocast may be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
