"""What a distillation loss is, and how features are collected by layer name from networks that stay as they are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rolewise.errors import InputError, unknown


@dataclass(frozen=True)
class Outputs:
    """What a network gave for one batch.

    Args:
        logits: `(n, k)`, one row an image.
        features: maps `(n, c, h, w)` of the tapped layers, shallow to deep; may be empty.
        labels: `(n,)`, the images' classes, for the losses that look at them (DKD, CRD).
        ids: `(n,)`, the images' positions in the training set, for the losses that remember images (CRD).
    """

    logits: Float[Tensor, "n k"]
    features: tuple[Tensor, ...] = ()
    labels: Int64[Tensor, " n"] | None = None
    ids: Int64[Tensor, " n"] | None = None

    def float(self) -> "Outputs":
        """The same in float32 (float64 stays): distillation losses are never computed in half precision."""

        def single(x: Tensor) -> Tensor:
            return x if x.dtype == torch.float64 else x.float()

        return Outputs(single(self.logits), tuple(single(f) for f in self.features), self.labels, self.ids)

    def detach(self) -> "Outputs":
        """The same without history."""
        return Outputs(self.logits.detach(), tuple(f.detach() for f in self.features), self.labels, self.ids)


class TrainingImages(Protocol):
    """What a loss's `prepare` needs of a training split."""

    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def std(self) -> tuple[float, float, float]: ...


class KDLoss(nn.Module):
    """A distillation loss: a scalar from the outputs of student and teacher. Write one by writing `forward`.

    Class attributes say how the loss is used unless `Distill` is told otherwise:

    - `task_weight`: factor of the task loss (cross-entropy), no unit.
    - `weight`: factor lambda of this loss, no unit.
    - `decay`: whether lambda is halved at the milestones of the learning rate.
    - `clip`: whether this loss's gradient is clipped, per tensor, against the task's.
    - `needs_features`: whether `forward` reads `features`.

    Parameters that a loss registers are trained together with the student; `build` makes those whose sizes
    depend on the networks, `prepare` trains what must be ready before (the heads of MHGD).

    Args:
        taps: names of the student's modules whose outputs become `features`; None takes the network's own `taps`.
        teacher_taps: the same for the teacher, where its names differ; None takes `taps`.
    """

    task_weight: ClassVar[float] = 1.0
    weight: ClassVar[float] = 1.0
    decay: ClassVar[bool] = False
    clip: ClassVar[bool] = False
    needs_features: ClassVar[bool] = True

    def __init__(self, taps: Sequence[str] | None = None, teacher_taps: Sequence[str] | None = None) -> None:
        super().__init__()
        self.taps = None if taps is None else tuple(taps)
        self.teacher_taps = self.taps if teacher_taps is None else tuple(teacher_taps)

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        """Makes the parts whose sizes depend on the networks, from one batch of outputs; called once, before training.

        Args:
            student, teacher: outputs of a small batch, in float32.
            generator: draws the initial weights.
            images: number of images in the training set.
        """

    def prepare(self, teacher: nn.Module, split: TrainingImages, *, epochs: int = 40, seed: int = 0) -> None:
        """Trains the loss's own parts on the teacher, once per teacher; the student is not involved.

        Args:
            teacher: the fixed network, in eval mode; not changed.
            split: the full training split.
            epochs: length of this training.
            seed: of its order, augmentation and initial weights.
        """

    @property
    def prepared(self) -> bool:
        """Whether `prepare` has been done, or is not needed."""
        return True

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        """The loss of one batch."""
        raise TypeError(f"{type(self).__name__} has no `forward(self, student, teacher)`.")

    @classmethod
    def paper(cls, **arguments: Any) -> Self:
        """With the settings of the role-wise paper where they differ from the recommended ones."""
        return cls(**arguments)

    @classmethod
    def release(cls, **arguments: Any) -> Self:
        """With the settings of the paper authors' released code where they differ from the recommended ones."""
        return cls(**arguments)


def tap_names(model: nn.Module, taps: Sequence[str] | None, role: str = "student") -> tuple[str, ...]:
    """`taps`, or the network's own, after checking that the network has modules of these names.

    Raises:
        InputError: a name that no module bears (the nearest is named), or no taps at all.
    """
    names = getattr(model, "taps", None) if taps is None else taps
    if names is None:
        raise InputError(
            f"The {role} network {type(model).__name__} states no `taps`: give the loss the names of the layers "
            f'to compare, for example taps=["layer1", "layer2"].'
        )
    known = [name for name, _ in model.named_modules() if name]
    for name in names:
        if name not in known:
            raise InputError(unknown(f"tap of the {role} network", name, known))
    return tuple(names)


@contextmanager
def tapped(model: nn.Module, taps: Sequence[str]) -> Iterator[list[Tensor | None]]:
    """While the context lasts, each forward pass of `model` leaves the outputs of the modules `taps` in the list."""
    found: list[Tensor | None] = [None] * len(taps)

    def keep(index: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found[index] = output

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(index)) for index, name in enumerate(taps)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def collect(model: nn.Module, images: Tensor, taps: Sequence[str], role: str = "student") -> Outputs:
    """One forward pass: logits and the tapped features.

    Raises:
        InputError: a tap whose module was not called, or that gave something other than one tensor.
    """
    with tapped(model, taps) as found:
        logits = model(images)
    for name, feature in zip(taps, found, strict=True):
        if not isinstance(feature, Tensor):
            came = "was not called" if feature is None else f"gave a {type(feature).__name__}, not one tensor,"
            raise InputError(f'The tap "{name}" of the {role} network {came} during the forward pass.')
    return Outputs(logits, tuple(feature for feature in found if feature is not None))


def check_pair(student: Outputs, teacher: Outputs, *, dims: int = 4) -> None:
    """Checks that two outputs can be compared feature by feature.

    Raises:
        InputError: other batch sizes, numbers of classes, numbers of features, or ranks; both sides are named.
    """
    if student.logits.shape[0] != teacher.logits.shape[0]:
        raise InputError(
            f"student and teacher must see the same batch: {student.logits.shape[0]} images "
            f"against {teacher.logits.shape[0]}."
        )
    if student.logits.shape[1:] != teacher.logits.shape[1:]:
        raise InputError(
            f"student and teacher must have the same classes: logits {tuple(student.logits.shape)} "
            f"against {tuple(teacher.logits.shape)}."
        )
    if len(student.features) != len(teacher.features):
        raise InputError(
            f"student and teacher must give the same number of feature maps: {len(student.features)} "
            f"against {len(teacher.features)}. Check `taps` and `teacher_taps`."
        )
    for role, outputs in (("student", student), ("teacher", teacher)):
        for index, feature in enumerate(outputs.features):
            if feature.ndim != dims or feature.shape[0] != outputs.logits.shape[0]:
                shape = "(n, c, h, w)" if dims == 4 else f"of {dims} dimensions"
                raise InputError(
                    f"{role} features[{index}] must have shape {shape} with n = {outputs.logits.shape[0]}, "
                    f"got {tuple(feature.shape)}."
                )
