"""What every network of this package has: `taps`, `act_points`, `architecture`, `reset`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rolewise._types import Logits
from rolewise.errors import InputError, check_integer
from rolewise.seeds import torch_generator

Maps = Float[Tensor, "n _ _ _"]  # (n, c, h, w); a layer may change all but n
Norm = Callable[[int], nn.BatchNorm2d]


def paper_norm(width: int) -> nn.BatchNorm2d:
    """BatchNorm as in the role-wise authors' code: the running averages move by 1 % with each batch."""
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class Network(nn.Module):
    """A network that names what others look at.

    - `taps`: the modules whose outputs distillation losses see, shallow to deep.
    - `embedding_taps`: the same for losses of vectors, where another module than the last tap gives the map that the
      classifier averages; empty: the last tap does.
    - `pre_activation_taps`: the same for losses that compare maps before the ReLU; empty: the network offers none.
    - `act_points`: the modules whose outputs `quantize` quantizes.
    - `architecture`: `{"name": ..., "arguments": {...}}`, JSON from which `networks.build` makes it again.
    """

    taps: tuple[str, ...]
    embedding_taps: tuple[str, ...] = ()
    pre_activation_taps: tuple[str, ...] = ()
    act_points: tuple[str, ...]
    architecture: dict[str, Any]
    # The last layer's initial weights: "xavier" (uniform, biases 0) or "kaiming" like all others.
    classifier: ClassVar[str] = "fc"
    classifier_init: ClassVar[str] = "xavier"

    fc: nn.Linear

    def logits(self, features: Maps) -> Logits:
        """Global average pool and classifier."""
        found: Tensor = self.fc(features.mean((2, 3)))
        return found

    def reset(self, generator: torch.Generator) -> None:
        """Redraws all weights from `generator` and resets the buffers of BatchNorm.

        Convolutions and hidden linear layers: normal with variance 2 / fan_in (Kaiming), biases 0. The classifier:
        uniform within sqrt(6 / (fan_in + fan_out)) (Xavier), bias 0, unless the network says otherwise.

        Args:
            generator: CPU generator; the numbers are the same on every device and in every memory format.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                self._reset_layer(
                    module,
                    xavier=name == self.classifier and self.classifier_init == "xavier",
                    generator=generator,
                )
        for module in self.modules():
            # BatchNorm, and the steps that a quantizer learns: these follow from the weights, hence
            # afterwards.
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_parameters()
            elif callable(renew := getattr(module, "reset_quantizer", None)):
                renew()

    @staticmethod
    def _reset_layer(layer: nn.Conv2d | nn.Linear, *, xavier: bool, generator: torch.Generator) -> None:
        weight = layer.weight
        drawn = torch.empty(weight.shape, dtype=torch.float32)
        fan_in = weight[0].numel()
        if xavier:
            limit = math.sqrt(6 / (fan_in + weight.shape[0]))
            drawn.uniform_(-limit, limit, generator=generator)
        else:
            drawn.normal_(0, math.sqrt(2 / fan_in), generator=generator)
        with torch.no_grad():
            weight.copy_(drawn)
            if layer.bias is not None:
                layer.bias.zero_()


def make(
    name: str, construct: Callable[[], Network], num_classes: int, seed: int, **arguments: Any
) -> Network:
    """A network with weights drawn from (seed, name); the global random numbers are left alone.

    Args:
        name: its key in `NETWORKS`.
        construct: makes it, with any weights.
        num_classes: number of classes, at least 2.
        seed: base seed of the initial weights; not a part of the architecture.
        arguments: the other arguments that shape it, JSON.
    """
    num_classes = check_integer("num_classes", num_classes, 2)
    check_integer("seed", seed, 0)
    with torch.device("meta"):  # so that no constructor draws weights
        network = construct()
    network.to_empty(device="cpu")
    network.architecture = {"name": name, "arguments": {"num_classes": num_classes, **arguments}}
    network.reset(torch_generator(seed, "network", name))
    return network


@dataclass(frozen=True)
class InitReport:
    """What `init_from` did, by tensor name.

    Args:
        copied: name and shape matched.
        missing: the student's tensors that the teacher does not have; they keep their values.
        mismatched: names in both, with shapes that differ; they keep their values.
        unused: the teacher's tensors that the student does not have.
    """

    copied: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        def some(title: str, names: tuple[str, ...]) -> str:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            return f"{len(names)} {title}" + (f" ({shown})" if names else "")

        return "; ".join(
            [
                f"{len(self.copied)} tensors copied",
                some("not in the teacher", self.missing),
                some("of another shape", self.mismatched),
                some("of the teacher not used", self.unused),
            ]
        )


def init_from(student: nn.Module, teacher: nn.Module) -> InitReport:
    """Copies every tensor, parameters and buffers, whose name and shape match; the others keep their values.

    A ResNet8 takes stem, first block of each stage and classifier from a ResNet18.

    Raises:
        InputError: nothing matches.
    """
    theirs: dict[str, Tensor] = teacher.state_dict()
    mine: dict[str, Tensor] = student.state_dict()
    copied = [name for name, tensor in mine.items() if name in theirs and theirs[name].shape == tensor.shape]
    if not copied:
        raise InputError(
            f"No tensor of the teacher {type(teacher).__name__} has a name and shape of the student "
            f"{type(student).__name__}: it would start from its own weights. Then leave this step out."
        )
    with torch.no_grad():
        for name in copied:
            mine[name].copy_(theirs[name])
    return InitReport(
        copied=tuple(copied),
        missing=tuple(name for name in mine if name not in theirs),
        mismatched=tuple(name for name in mine if name in theirs and name not in copied),
        unused=tuple(name for name in theirs if name not in mine),
    )
