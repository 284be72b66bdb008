"""What losses check of their arguments and of the outputs that they compare."""

import math
from typing import cast

from jaxtyping import Int64
from torch import Tensor

from rolewise.errors import InputError, InputTypeError
from rolewise.kd.base import Outputs

# (shape of a student's map, shape of the teacher's), both without the batch, per layer.
Shapes = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


def check_logits(student: Outputs, teacher: Outputs) -> None:
    """Checks that the logits of two outputs can be compared.

    Raises:
        InputError: logits of other ranks, batch sizes or numbers of classes; both sides are named.
    """
    for role, outputs in (("student", student), ("teacher", teacher)):
        if outputs.logits.ndim != 2:
            raise InputError(f"{role} logits must have shape (n, k), got {tuple(outputs.logits.shape)}.")
    if student.logits.shape[0] != teacher.logits.shape[0]:
        raise InputError(
            f"student and teacher must see the same batch: {student.logits.shape[0]} images "
            f"against {teacher.logits.shape[0]}."
        )
    if student.logits.shape[1] != teacher.logits.shape[1]:
        raise InputError(
            f"student and teacher must have the same classes: logits {tuple(student.logits.shape)} "
            f"against {tuple(teacher.logits.shape)}."
        )


def check_pair(student: Outputs, teacher: Outputs, *, dims: int = 4) -> None:
    """Checks that two outputs can be compared feature by feature.

    Raises:
        InputError: what `check_logits` refuses, and features that differ in number or rank; both sides are named.
    """
    check_logits(student, teacher)
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


def check_features(loss: str, student: Outputs, teacher: Outputs, *, least: int = 1) -> None:
    """`check_pair`, and that there are enough feature maps.

    Raises:
        InputError: the two sides do not fit, or give fewer than `least` maps.
    """
    check_pair(student, teacher)
    if len(student.features) < least:
        raise InputError(
            f"{loss} needs at least {least} feature map{'s' if least > 1 else ''} of each network, "
            f"got {len(student.features)}. Name the layers in `taps`."
        )


def check_classes(loss: str, student: Outputs, teacher: Outputs) -> None:
    """`check_logits`, and that there are classes to compare; features, which such losses do not read, may be any.

    Raises:
        InputError: the two sides do not fit, or there are fewer than 2 classes.
    """
    check_logits(student, teacher)
    if student.logits.shape[1] < 2:
        raise InputError(f"{loss} compares classes and needs at least 2, got {student.logits.shape[1]}.")


def check_batch(loss: str, outputs: Outputs, least: int = 2) -> None:
    """That there are images to compare with each other.

    Raises:
        InputError: fewer than `least`.
    """
    if outputs.logits.shape[0] < least:
        raise InputError(
            f"{loss} compares images with each other and needs a batch of at least {least}, "
            f"got {outputs.logits.shape[0]}."
        )


def check_layer(layer: int, outputs: Outputs, *, name: str = "layer") -> None:
    """That `layer`, an argument of this name, is an index into the feature maps.

    Raises:
        InputError: it is not.
    """
    count = len(outputs.features)
    if not -count <= layer < count:
        raise InputError(
            f"`{name}` must be an index into the {count} feature maps ({-count} to {count - 1}), got {layer}."
        )


def check_positive(name: str, value: object) -> float:
    """`value` as a float above 0.

    Raises:
        InputTypeError: not a number.
        InputError: not finite, or not above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputTypeError(f"`{name}` must be a number above 0, got {value!r}.")
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"`{name}` must be a finite number above 0, got {value}.")
    return float(value)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """`value` if it is one of `allowed`.

    Raises:
        InputError: it is not.
    """
    if value not in allowed:
        raise InputError(f"`{name}` must be {' or '.join(f'{a!r}' for a in allowed)}, got {value!r}.")
    return value


def labels_of(loss: str, student: Outputs, teacher: Outputs) -> Int64[Tensor, " n"]:
    """The images' classes, from the student's outputs or else from the teacher's.

    Raises:
        InputError: neither bears them, or their number is not that of the logits.
    """
    return _per_image(loss, "labels", "classes", student, teacher)


def ids_of(loss: str, student: Outputs, teacher: Outputs) -> Int64[Tensor, " n"]:
    """The images' numbers, from the student's outputs or else from the teacher's.

    Raises:
        InputError: neither bears them, or their number is not that of the logits.
    """
    return _per_image(loss, "ids", "numbers", student, teacher)


def _per_image(loss: str, field: str, meaning: str, student: Outputs, teacher: Outputs) -> Tensor:
    values = getattr(student, field)
    values = getattr(teacher, field) if values is None else values
    if values is None:
        raise InputError(f"{loss} needs the images' {meaning}: give Outputs(..., {field}=...).")
    if values.shape[0] != student.logits.shape[0]:
        raise InputError(
            f"`{field}` must hold one number for each of the {student.logits.shape[0]} images of the logits, "
            f"got {values.shape[0]}."
        )
    return cast(Tensor, values)


def shapes_of(student: Outputs, teacher: Outputs) -> Shapes:
    """The shapes of the feature maps without the batch, layer by layer."""
    pairs = zip(student.features, teacher.features, strict=True)
    return tuple((tuple(s.shape[1:]), tuple(t.shape[1:])) for s, t in pairs)


def check_built(loss: str, shapes: Shapes | None, student: Outputs, teacher: Outputs) -> None:
    """That the parts of a loss were made, and for maps of these shapes.

    Raises:
        InputError: no `build` yet, or other shapes than it saw.
    """
    if shapes is None:
        raise InputError(
            f"{loss} has parts whose sizes depend on the networks: call `build(student, teacher, ...)` first "
            f"(`Distill` does)."
        )
    now = shapes_of(student, teacher)
    if now != shapes:
        raise InputError(
            f"{loss} was built for {_list(shapes)}, got {_list(now)}. Build a new one for other networks."
        )


def _list(shapes: Shapes) -> str:
    student = ", ".join("x".join(map(str, s)) for s, _ in shapes)
    teacher = ", ".join("x".join(map(str, t)) for _, t in shapes)
    return f"student maps of {student} and teacher maps of {teacher}"
