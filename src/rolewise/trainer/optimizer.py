"""The optimizer of a training, its learning rates, and the clip of the whole gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.quant import quantizer_parameters
from rolewise.trainer.settings import TrainSettings


@dataclass(frozen=True)
class _Group:
    """Parameters with the same weight decay, and the same factor of the learning rate."""

    parameters: list[nn.Parameter]
    decay: float
    factor: float


def make_optimizer(
    model: nn.Module, own: list[nn.Parameter], settings: TrainSettings
) -> torch.optim.Optimizer:
    """The optimizer, fused, its learning rates tensors on the device (so that a captured step sees them change)."""
    device = torch.device(settings.device)
    groups = [
        {
            "params": group.parameters,
            "weight_decay": group.decay,
            "lr": torch.tensor(settings.lr * group.factor, device=device),
            "lr_ratio": group.factor,
        }
        for group in _groups(model, own, settings)
        if group.parameters
    ]
    if not groups:
        raise InputError(f"{type(model).__name__} has no parameters to train.")
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True)
    capturable = device.type == "cuda"
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=True, capturable=capturable)
    # eps: the role-wise release's; it matters where gradients are tiny, as behind a clipped activation.
    return torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-5, fused=True, capturable=capturable)


def _groups(model: nn.Module, own: list[nn.Parameter], settings: TrainSettings) -> list[_Group]:
    """The network's parameters and the objective's `own`, by weight decay and learning rate."""
    factor = 1.0 if settings.quantizer_lr is None else settings.quantizer_lr / settings.lr
    if settings.quantizer_lr is not None and not quantizer_parameters(model):
        raise InputError(
            f"`quantizer_lr` is {settings.quantizer_lr:g}, but this network has no quantizer that learns (LSQ, PACT): "
            "leave it out, or take such a quantizer."
        )
    learned = {id(one) for one in quantizer_parameters(model).values()} if factor != 1.0 else set()
    everything = settings.decay_scope == "all"
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    quantizers: list[nn.Parameter] = []
    seen: set[int] = set()  # layers may share a parameter, which is updated once
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            weight = name == "weight" and isinstance(module, nn.Conv2d | nn.Linear)
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if id(parameter) in learned:
                quantizers.append(parameter)
            else:
                (decayed if weight or everything else free).append(parameter)
    (decayed if everything else free).extend(own)
    decay = settings.weight_decay
    return [
        _Group(decayed, decay, 1.0),
        _Group(free, 0.0, 1.0),
        _Group(quantizers, decay if everything else 0.0, factor),
    ]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Writes the learning rate into the tensors that the optimizer holds, each times its group's ratio."""
    for group in optimizer.param_groups:
        rate: Tensor = group["lr"]
        rate.fill_(lr * group["lr_ratio"])


def clip_gradient(optimizer: torch.optim.Optimizer, norm: float) -> None:
    """Shrinks the gradient of all parameters together to at most `norm`; waits for nothing."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(parameters, norm, foreach=True)
