"""`quantize`: a float network becomes a low-bit one in place; and the description that repeats it."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from rolewise.bits import FULL, check_bits
from rolewise.errors import InputError, unknown
from rolewise.quant.activations import (
    activation_bits,
    check_activation,
    quantized_activations,
    swap_activation,
)
from rolewise.quant.grid import Grid
from rolewise.quant.layers import beneath, check_layer, is_layer, quantized_weights, swap_layer
from rolewise.quant.method import find_method
from rolewise.quant.passes import add_passes

M = TypeVar("M", bound=nn.Module)
Bits = int | Sequence[int]
# What has a weight matrix that is not quantized: convolutions of other kinds, and what computes with several.
OTHERS = (nn.modules.conv._ConvNd, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


class Description(dict[str, Any]):
    """What `quantize` leaves on a network; its own class, for a network may have an attribute of this name."""


@dataclass(frozen=True)
class LayerBits:
    """The bit-widths at one module; None where it has no such quantizer."""

    weights: int | None = None
    activations: int | None = None


def quantize(
    model: M,
    weight_bits: int,
    act_bits: int,
    act_points: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
    *,
    method: str = "dorefa",
    layers: Mapping[str, Bits] | None = None,
    grad_bits: int = FULL,
    first_last_bits: int = FULL,
) -> M:
    """Makes a network low-bit: `model` is changed and returned; if an error is raised, nothing has changed.

    The float weights keep their names in `state_dict`, and DoReFa adds none, so that a teacher's weights load
    by name; `deepcopy` and pickle work as before.

    Warns (UserWarning) of layers that stay in full precision because of their kind, such as `nn.Conv1d`.

    Args:
        model: any network with `nn.Conv2d` and `nn.Linear`; a compiled one (`torch.compile`) is changed beneath.
        weight_bits: 1 to 8, or 32: the weights stay as they are.
        act_bits: 1 to 8, or 32: the activations stay as they are.
        act_points: names of the modules whose outputs are quantized; None takes the network's own
            `act_points`. An `nn.ReLU` or `nn.Identity` becomes the quantizer, any other module quantizes what
            it returns.
        skip: names of layers whose weights stay in full precision (a name covers what lies beneath it); None
            skips the first and the last layer, in the order in which the network registers them; `[]` skips
            none. Layers of kinds that stay in full precision may be named, so that no warning names them.
        method: "dorefa", "lsq" or "pact".
        layers: other bit-widths by name, for mixed precision: `{"layer1": 8, "fc": (8, 4)}`, one number for
            both, or weights and activations. A name covers what lies beneath it, the longest name counts, and
            a layer named in full is quantized even if it is the first or last.
        grad_bits: 1 to 8: the gradients of the quantized layers' outputs are quantized too, in training mode
            (DoReFa's `bit_g`; the role-wise paper does not). A step counter joins each layer's buffers.
        first_last_bits: bits of the first and the last layer's weights, 1 to 8 (8 is usual), or 32: `skip` and
            `layers` decide. `skip` and `layers` come before it for the layers that they name.

    Raises:
        InputError: bits that are not allowed, a name that matches nothing, a layer both in `skip` and in
            `layers`, a network that is quantized already, or has no layers, or states no `act_points`, or a layer
            that cannot be quantized.
    """
    check_bits("weight_bits", weight_bits)
    check_bits("act_bits", act_bits)
    check_bits("grad_bits", grad_bits)
    check_bits("first_last_bits", first_last_bits)
    find_method(method).weights.check(weight_bits)
    network = beneath(model)
    if quantization(network) is not None:
        raise InputError("The network is quantized already. Quantize a copy of the float network.")
    names = _first_names(network)
    found = [name for name, module in network.named_modules() if is_layer(module)]
    points = _points(network, names, act_points, act_bits, layers)
    special = _special(layers, [*found, *points], names)
    others = [
        name for name, module in network.named_modules() if isinstance(module, OTHERS) and name not in found
    ]
    skipped = _skipped(found, others, skip, layers, names, first_last=first_last_bits == FULL)
    outer = dict.fromkeys(found[:1] + found[-1:], first_last_bits) if first_last_bits != FULL else {}
    weights = {
        name: special[name][0] if name in special else outer.get(name, weight_bits)
        for name in found
        if name not in skipped
    }
    activations = {name: special[name][1] if name in special else act_bits for name in points}
    if weight_bits != FULL and not weights:
        raise InputError(_nothing_left(network, found, others))
    if grad_bits != FULL and all(bits == FULL for bits in weights.values()):
        raise InputError(
            "`grad_bits` is for layers with quantized weights, and `weight_bits` leaves all as they are."
        )
    description = {
        "method": method,
        "weight_bits": weight_bits,
        "act_bits": act_bits,
        "grad_bits": grad_bits,
        "weights": {name: bits for name, bits in weights.items() if bits != FULL},
        "activations": {name: bits for name, bits in activations.items() if bits != FULL},
    }
    apply_quantization(network, description)
    left = [name for name in others if name not in skipped]
    if left and description["weights"]:
        said = ", ".join(f'"{name}"' for name in names if name in skipped or name in left)
        warnings.warn(f"{_stay(network, left)} If that is meant, say so: skip=[{said}].", stacklevel=2)
    return model


def apply_quantization(model: M, description: Mapping[str, Any]) -> M:
    """Quantizes a float network as a description says that came from `quantization(model)`.

    Raises:
        InputError: names that the network does not have, or bits that are not allowed.
    """
    network = beneath(model)
    modules = dict(network.named_modules(remove_duplicate=False))
    method = find_method(str(description["method"]))
    weights, activations = dict(description["weights"]), dict(description["activations"])
    grids = {name: Grid.from_json(entry) for name, entry in (description.get("grids") or {}).items()}
    grad_bits = check_bits("grad_bits", description.get("grad_bits", FULL))
    for kind, names in (("layer", weights), ("act point", activations)):
        for name, bits in names.items():
            if name not in modules:
                raise InputError(unknown(kind, name, (known for known in modules if known)))
            check_bits(f'bits of "{name}"', bits)
    for name, bits in weights.items():
        method.weights.check(bits)
        check_layer(modules[name], name)
    for name in activations:
        check_activation(modules[name], name, method.name)
    # All checks lie behind: from here on the network changes.
    like = next(
        (parameter for parameter in network.parameters() if parameter.is_floating_point()), torch.empty(())
    )
    passes = add_passes(network)
    for name, bits in weights.items():
        grid = grids.get(name)
        swap_layer(modules[name], name, bits, method.name, passes, grad_bits=grad_bits, grid=grid)
    for name, bits in activations.items():
        swap_activation(modules[name], bits, method.name, like)
    network.quantization = Description({**description, "weights": weights, "activations": activations})  # type: ignore[assignment]
    return model


def quantization(model: nn.Module) -> dict[str, Any] | None:
    """The description, as JSON, that makes the float network into this one; None for a float network."""
    found = getattr(beneath(model), "quantization", None)
    return dict(found) if isinstance(found, Description) else None


def quantized_layers(model: nn.Module) -> dict[str, LayerBits]:
    """The bit-widths of each quantized module by name, in the network's order."""
    weights = {name: layer.weight_bits for name, layer in quantized_weights(model).items()}
    activations = {name: activation_bits(module)[0] for name, module in quantized_activations(model).items()}
    order = [name for name, _ in beneath(model).named_modules() if name in weights or name in activations]
    return {name: LayerBits(weights.get(name), activations.get(name)) for name in order}


def _nothing_left(network: nn.Module, found: Sequence[str], others: Sequence[str]) -> str:
    """Why no layer is quantized: there is none of the kinds that can be, or all are skipped."""
    has = ", ".join(f'"{name}"' for name in found)
    said = (
        f"all Conv2d and Linear layers of the network, {has}, are skipped. `skip=[]` quantizes the first and last too."
        if found
        else "the network has no Conv2d or Linear layer."
    )
    also = f" {_stay(network, others)}" if others else ""
    return f"No layer is left to quantize: {said}{also}"


def _stay(network: nn.Module, others: Sequence[str]) -> str:
    kinds = [f'"{name}" ({type(network.get_submodule(name)).__name__})' for name in others]
    return f"Layers of other kinds stay in full precision: {', '.join(kinds)}."


def _first_names(model: nn.Module) -> dict[str, str]:
    """Every name of every module, and the first name of the module that bears it: a module may be registered twice."""
    first = {module: name for name, module in reversed(list(model.named_modules()))}
    return {name: first[module] for name, module in model.named_modules(remove_duplicate=False)}


def _points(
    model: nn.Module,
    names: Mapping[str, str],
    act_points: Sequence[str] | None,
    act_bits: int,
    layers: Mapping[str, Bits] | None,
) -> list[str]:
    """The act points, each a module of the network, by its first name."""
    points = getattr(model, "act_points", None) if act_points is None else act_points
    if points is None:
        if act_bits == FULL and not layers:
            return []
        relus = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
        hint = f" Its ReLUs are: {', '.join(relus)}." if relus else ""
        raise InputError(
            f"{type(model).__name__} states no `act_points`: give the names of the modules whose outputs are to "
            f"be quantized, act_points=[...], or [] for none.{hint}"
        )
    for name in points:
        if name not in names or not name:
            raise InputError(unknown("act point", name, (known for known in names if known)))
    return list(dict.fromkeys(names[name] for name in points))


def _covers(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _covered(prefix: str, known: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """The modules, by first name, that `prefix` covers under any of their names."""
    reached = {first for name, first in names.items() if _covers(prefix, name)}
    return [name for name in known if name in reached]


def _special(
    layers: Mapping[str, Bits] | None, known: Sequence[str], names: Mapping[str, str]
) -> dict[str, tuple[int, int]]:
    """`layers` checked, as (weight bits, activation bits) by first name, the longest name's last."""
    special: dict[str, tuple[int, int]] = {}
    for name, bits in sorted((layers or {}).items(), key=lambda entry: len(entry[0])):
        covered = _covered(name, known, names)
        if not covered:
            raise InputError(unknown("layer or act point in `layers`", name, known))
        pair = tuple(bits) if isinstance(bits, Sequence) else (bits, bits)
        if len(pair) != 2:
            raise InputError(
                f'`layers["{name}"]` must be one bit-width or (weights, activations), got {bits!r}.'
            )
        checked = (check_bits(f'layers["{name}"]', pair[0]), check_bits(f'layers["{name}"]', pair[1]))
        special.update(dict.fromkeys(covered, checked))
    return special


def _skipped(
    found: list[str],
    others: list[str],
    skip: Sequence[str] | None,
    layers: Mapping[str, Bits] | None,
    names: Mapping[str, str],
    *,
    first_last: bool,
) -> set[str]:
    """The layers that stay in full precision, by their places or because `skip` names them."""
    named = {names.get(name, name) for name in layers or {}}
    if skip is None:
        return {name for name in (found[:1] + found[-1:]) if name not in named} if first_last else set()
    if isinstance(skip, str):
        raise InputError(f'`skip` must be a list of names, got "{skip}". Write skip=["{skip}"].')
    known, skipped = [*found, *others], set[str]()
    for name in skip:
        covered = _covered(name, known, names)
        if not covered:
            raise InputError(unknown("layer in `skip`", name, known))
        skipped.update(covered)
    if both := sorted(skipped & named):
        raise InputError(f'"{both[0]}" is both in `skip` and in `layers`. Leave it out of one of them.')
    return skipped
