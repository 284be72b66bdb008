"""What a distillation loss is, and how features are collected by layer name; networks stay as they are."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rolewise.errors import InputError, InputTypeError, unknown
from rolewise.kd.kept import Kept

TapKind = Literal["stages", "embedding", "pre_activation"]
_TAPS: dict[TapKind, str] = {
    "stages": "taps",
    "embedding": "embedding_taps",
    "pre_activation": "pre_activation_taps",
}


@dataclass(frozen=True)
class Outputs:
    """What a network gave for one batch.

    Args:
        logits: `(n, k)`, one row an image.
        features: maps `(n, c, h, w)` of the tapped layers, shallow to deep; may be empty.
        labels: `(n,)`, the images' classes, for the losses that look at them (DKD, CRD).
        ids: `(n,)`, which images these are, for the losses that remember them (CRD). An image keeps its id in every
            part of a data set, so an id says nothing about how many images there are.
    """

    # Ranks are left to `check_pair`, whose message names both sides.
    logits: Float[Tensor, "..."]
    features: tuple[Float[Tensor, "..."], ...] = ()
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


@runtime_checkable
class Images(Protocol):
    """uint8 images (n, h, w, c): a tensor, or what reads like one."""

    @property
    def device(self) -> torch.device: ...
    def __len__(self) -> int: ...
    def __getitem__(self, chosen: Any, /) -> Tensor: ...


@runtime_checkable
class TrainingImages(Protocol):
    """What a loss's `prepare` needs of a training split."""

    @property
    def images(self) -> Images: ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...


class KDLoss(nn.Module):
    """A distillation loss: a scalar from the outputs of student and teacher. Write one by writing `forward`.

    Calling a loss casts half-precision outputs to float32, switches autocast off and cuts the teacher's
    history; `forward` need not care.

    Class attributes set how the loss is used unless `Distill` overrides them (an object may have its own):

    - `task_weight`: factor of the task loss (cross-entropy), no unit.
    - `weight`: factor lambda of this loss, no unit.
    - `decay`: whether lambda is halved at the milestones of the learning rate.
    - `clip`: whether this loss's gradient is clipped, per tensor, against the task's.
    - `needs_features`: whether `forward` reads `features`.
    - `needs_labels`: whether `forward` reads `labels` or `ids`; both are None where images are mixed (Mixup, CutMix),
      so such a loss is refused there.
    - `tap_kind`: which of a network's own taps it takes when none are named: "stages" (`taps`), "embedding"
      (`embedding_taps`, whose last map the classifier averages), or "pre_activation" (`pre_activation_taps`, before
      the ReLU). A network that states none of that kind gives its `taps`.

    Parameters that a loss registers are trained together with the student; `build` makes those whose sizes
    depend on the networks, `prepare` trains what must be ready before (the heads of MHGD).

    Args:
        taps: names of the student's modules whose outputs become `features`; None takes the network's own.
        teacher_taps: the same for the teacher, where its names differ; None takes `taps`.
    """

    task_weight: float = 1.0
    weight: float = 1.0
    decay: bool = False
    clip: bool = False
    needs_features: bool = True
    needs_labels: bool = False
    tap_kind: TapKind = "stages"

    def __init__(self, taps: Sequence[str] | None = None, teacher_taps: Sequence[str] | None = None) -> None:
        super().__init__()
        self.taps = _names("taps", taps)
        self.teacher_taps = self.taps if teacher_taps is None else _names("teacher_taps", teacher_taps)

    def __call__(self, student: Outputs, teacher: Outputs) -> Tensor:
        """`forward` in float32 (float64 stays) without autocast; no gradient reaches the teacher."""
        with torch.autocast(student.logits.device.type, enabled=False):
            loss: Tensor = super().__call__(student.float(), teacher.float().detach())
        return loss

    def build(self, student: Outputs, teacher: Outputs, *, generator: torch.Generator, images: int) -> None:
        """Makes the parts whose sizes depend on the networks; called once, before training.

        Args:
            student, teacher: outputs of a small batch, in float32; they show the sizes.
            generator: draws the initial weights.
            images: number of images in the training split: so many different ids will occur.
        """

    def prepare(self, teacher: nn.Module, split: TrainingImages, *, epochs: int = 40, seed: int = 0) -> None:
        """Trains the loss's own parts on the teacher, once per teacher; the student is not involved.

        Args:
            teacher: the fixed network, in eval mode; not changed.
            split: the full training split.
            epochs: length of this training.
            seed: base seed of its order, augmentation and initial weights.
        """

    @property
    def prepared(self) -> bool:
        """Whether `prepare` has been done, or is not needed."""
        return True

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes back a `state_dict()`, for instance what `prepare` trained and a file kept.

        A fresh object will do where `prepare` makes the parts; those that `build` makes must be built first.

        Raises:
            InputError: the tensors are those of another loss, or of other networks.
        """
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"These tensors do not fit {type(self).__name__}: {error}") from error

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        """The loss of one batch."""
        raise TypeError(f"{type(self).__name__} has no `forward(self, student, teacher)`.")

    @classmethod
    def paper(cls, **arguments: Any) -> "KDLoss":
        """With the settings of the role-wise paper where they differ from the recommended ones."""
        return cls(**arguments)

    @classmethod
    def release(cls, **arguments: Any) -> "KDLoss":
        """With the settings of the authors' released code where they differ from the recommended ones."""
        return cls(**arguments)


def _names(argument: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names as a tuple; a single string is refused, since it would be read letter by letter."""
    if isinstance(names, str):
        raise InputTypeError(
            f'`{argument}` must be a list of module names, got "{names}"; write ["{names}"].'
        )
    return None if names is None else tuple(names)


def check_teacher(model: nn.Module) -> None:
    """Refuses a teacher in training mode.

    Raises:
        InputError: the teacher, or one of its modules, is in training mode.
    """
    for name, module in model.named_modules():
        if module.training:
            where = (
                f'module "{name}" of the teacher network'
                if name
                else f"teacher network {type(model).__name__}"
            )
            raise InputError(
                f"The {where} is in training mode: its batch statistics would change with every batch "
                f"that the student sees. Call teacher.eval() first."
            )


def tap_names(
    model: nn.Module, taps: Sequence[str] | None, role: str = "student", *, kind: TapKind = "stages"
) -> tuple[str, ...]:
    """`taps`, or the network's own of this kind, after checking that the network has modules of these names.

    Raises:
        InputError: a name that no module bears (the nearest is named), or no taps at all.
    """
    names = taps
    if names is None:
        names = getattr(model, _TAPS[kind], ()) or getattr(model, "taps", None)
    if names is None:
        raise InputError(
            f"The {role} network {type(model).__name__} states no `taps`: give the loss the names of the "
            f'layers to compare, for example taps=["layer1", "layer2"].'
        )
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    for name in names:
        if name not in known:
            raise InputError(unknown(f"tap of the {role} network", name, known))
    return tuple(names)


@contextmanager
def tapped(model: nn.Module, taps: Sequence[str]) -> Iterator[list[Tensor | None]]:
    """While the context lasts, each forward pass of `model` leaves the outputs of its `taps` in the list.

    They are what the modules returned, also if the network writes into it later.
    """
    found: list[Tensor | None] = [None] * len(taps)
    kept: dict[int, Kept] = {}

    def keep(index: int) -> Any:
        def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                kept[index] = Kept(module, output)
                output = kept[index].value
            found[index] = output

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(keep(index)) for index, name in enumerate(taps)
    ]
    try:
        yield found
        for index, one in kept.items():
            one.check(taps[index])
    finally:
        for handle in handles:
            handle.remove()


def _form(value: Any) -> str:
    """What a network returned, for a message."""
    if isinstance(value, tuple | list):
        parts = [f"tensor {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__ for v in value[:4]]
        return f"a {type(value).__name__} ({', '.join(parts)}{', ...' if len(value) > 4 else ''})"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {', '.join(repr(key) for key in list(value)[:4])}"
    return f"a {type(value).__name__}"


def collect(model: nn.Module, images: Tensor, taps: Sequence[str], role: str = "student") -> Outputs:
    """One forward pass: logits and the tapped features.

    Raises:
        InputError: a tap whose module was not called, or that gave something other than one tensor.
    """
    with tapped(model, taps) as found:
        logits = model(images)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"The {role} network {type(model).__name__} returns {_form(logits)} instead of one tensor of logits, "
            "(n, classes). Let its forward return the logits alone; features are taken from its layers by name "
            "(`taps`). A network that you do not want to change: wrap it in a module whose forward is "
            "`return self.network(images)[0]`, where 0 is the place of the logits."
        )
    for name, feature in zip(taps, found, strict=True):
        if not isinstance(feature, Tensor):
            came = (
                "was not called" if feature is None else f"gave a {type(feature).__name__}, not one tensor,"
            )
            raise InputError(f'The tap "{name}" of the {role} network {came} during the forward pass.')
    return Outputs(logits, tuple(feature for feature in found if feature is not None))
