"""How a network is trained: the numbers of one training, and what is chosen from the machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, Unpack

import torch
from pydantic import Field
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.objective import Placement
from rolewise.settings import STUDENT, ComputeSettings, Integer, TrainOptions, TrainRecipe, settings
from rolewise.trainer.evaluation import default_batch


@settings
class TrainSettings(ComputeSettings, TrainRecipe):
    """The numbers of one training: what it does (`TrainRecipe`), and how it is computed (`ComputeSettings`).

    `replace` changes single fields of one; each is described beside its definition in `rolewise.settings`.
    """

    threads: Integer = Field(
        default=1, ge=1, description="threads of torch on a CPU; members of a search always use one"
    )

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
        chosen = self.resolved()
        precision: Literal["fp32", "bf16"] = "bf16" if chosen.precision == "bf16" else "fp32"
        return Placement(torch.device(chosen.device), precision, bool(chosen.channels_last), chosen.compile)


def teacher_settings(epochs: int = 200, **changes: Unpack[TrainOptions]) -> TrainSettings:
    """The paper's settings of 32-bit training without a teacher."""
    return TrainSettings(epochs, **changes)


def student_settings(epochs: int = 200, **changes: Unpack[TrainOptions]) -> TrainSettings:
    """The paper's settings of low-bit students: Adam, weight decay on weights alone."""
    chosen: TrainOptions = {**STUDENT, **changes}
    return TrainSettings(epochs, **chosen)


def make_optimizer(
    model: nn.Module, own: list[nn.Parameter], settings: TrainSettings
) -> torch.optim.Optimizer:
    """The optimizer, fused, its learning rate a tensor on the device (so that a captured step sees it change)."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()  # layers may share a parameter, which is updated once
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            weight = name == "weight" and isinstance(module, nn.Conv2d | nn.Linear)
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
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
