"""`quantize`: a float network becomes a low-bit one in place; and the description that repeats it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from rolewise.errors import InputError, unknown
from rolewise.quant.dorefa import FULL, check_bits
from rolewise.quant.grid import Grid
from rolewise.quant.layers import (
    is_layer,
    quantized_activations,
    quantized_weights,
    swap_activation,
    swap_layer,
)
from rolewise.quant.methods import find_method

M = TypeVar("M", bound=nn.Module)
Bits = int | Sequence[int]


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
) -> M:
    """Makes a network low-bit: `model` is changed and returned.

    The float weights keep their names in `state_dict`, and DoReFa adds none, so that a teacher's weights load
    by name; `deepcopy` and pickle work as before.

    Args:
        model: any network with `nn.Conv2d` and `nn.Linear`.
        weight_bits: 1 to 8, or 32: the weights stay as they are.
        act_bits: 1 to 8, or 32: the activations stay as they are.
        act_points: names of the modules whose outputs are quantized; None takes the network's own
            `act_points`. An `nn.ReLU` or `nn.Identity` becomes the quantizer, any other module quantizes what
            it returns.
        skip: names of layers whose weights stay in full precision (a name covers what lies beneath it); None
            skips the first and the last layer, in the order in which the network registers them; `[]` skips
            none.
        method: "dorefa", "lsq" or "pact".
        layers: other bit-widths by name, for mixed precision: `{"layer1": 8, "fc": (8, 4)}`, one number for
            both, or weights and activations. A name covers what lies beneath it, the longest name counts, and
            a layer named in full is quantized even if it is the first or last.
        grad_bits: 1 to 8: the gradients of the quantized layers' outputs are quantized too, in training mode
            (DoReFa's `bit_g`; the role-wise paper does not). A step counter joins each layer's buffers.

    Raises:
        InputError: bits that are not allowed, a name that matches nothing, a layer both in `skip` and in
            `layers`, a network that is quantized already, or has no layers, or states no `act_points`.
    """
    check_bits("weight_bits", weight_bits)
    check_bits("act_bits", act_bits)
    check_bits("grad_bits", grad_bits)
    find_method(method)
    if quantization(model) is not None:
        raise InputError("The network is quantized already. Quantize a copy of the float network.")
    found = [name for name, module in model.named_modules() if is_layer(module)]
    points = _points(model, act_points, act_bits, layers)
    special = _special(layers, [*found, *points])
    skipped = _skipped(found, skip, special)
    weights = {name: _bits(name, special, weight_bits, 0) for name in found if name not in skipped}
    activations = {name: _bits(name, special, act_bits, 1) for name in points}
    if weight_bits != FULL and not weights:
        raise InputError(
            "No layer is left to quantize: the network's Conv2d and Linear layers are "
            f"{', '.join(found) or 'none'}, and all are skipped. `skip=[]` quantizes the first and last too."
        )
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
    return apply_quantization(model, description)


def apply_quantization(model: M, description: Mapping[str, Any]) -> M:
    """Quantizes a float network as a description says that came from `quantization(model)`.

    Raises:
        InputError: names that the network does not have, or bits that are not allowed.
    """
    modules = dict(model.named_modules())
    method = find_method(str(description["method"]))
    weights, activations = dict(description["weights"]), dict(description["activations"])
    for kind, names in (("layer", weights), ("act point", activations)):
        for name, bits in names.items():
            if name not in modules:
                raise InputError(unknown(kind, name, (known for known in modules if known)))
            check_bits(f'bits of "{name}"', bits)
    method.check(
        min(weights.values(), default=FULL),
        min(activations.values(), default=FULL),
    )
    grids = description.get("grids") or {}
    grad_bits = check_bits("grad_bits", description.get("grad_bits", FULL))
    for name, bits in weights.items():
        grid = Grid.from_json(grids[name]) if name in grids else None
        swap_layer(modules[name], name, bits, method.name, grad_bits=grad_bits, grid=grid)
    like = next(
        (parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.empty(())
    )
    for name, bits in activations.items():
        swap_activation(modules[name], bits, method.name, like)
    model.quantization = {**description, "weights": weights, "activations": activations}  # type: ignore[assignment]
    return model


def quantization(model: nn.Module) -> dict[str, Any] | None:
    """The description, as JSON, that makes the float network into this one; None for a float network."""
    found = getattr(model, "quantization", None)
    return dict(found) if isinstance(found, Mapping) else None


def quantized_layers(model: nn.Module) -> dict[str, LayerBits]:
    """The bit-widths of each quantized module by name, in the network's order."""
    weights = {name: layer.weight_bits for name, layer in quantized_weights(model).items()}
    activations = {name: int(module.act_bits) for name, module in quantized_activations(model).items()}  # type: ignore[arg-type]
    order = [name for name, _ in model.named_modules() if name in weights or name in activations]
    return {name: LayerBits(weights.get(name), activations.get(name)) for name in order}


def _points(
    model: nn.Module, act_points: Sequence[str] | None, act_bits: int, layers: Mapping[str, Bits] | None
) -> list[str]:
    """The act points, each a module of the network."""
    modules = dict(model.named_modules())
    points = getattr(model, "act_points", None) if act_points is None else act_points
    if points is None:
        if act_bits == FULL and not layers:
            return []
        relus = [name for name, module in modules.items() if isinstance(module, nn.ReLU)]
        hint = f" Its ReLUs are: {', '.join(relus)}." if relus else ""
        raise InputError(
            f"{type(model).__name__} states no `act_points`: give the names of the modules whose outputs are to "
            f"be quantized, act_points=[...], or [] for none.{hint}"
        )
    for name in points:
        if name not in modules or not name:
            raise InputError(unknown("act point", name, (known for known in modules if known)))
    return list(dict.fromkeys(points))


def _covers(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _special(layers: Mapping[str, Bits] | None, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """`layers` checked, as (weight bits, activation bits)."""
    known = list(names)
    special = {}
    for name, bits in (layers or {}).items():
        if not any(_covers(name, one) for one in known):
            raise InputError(unknown("layer or act point in `layers`", name, known))
        pair = tuple(bits) if isinstance(bits, Sequence) else (bits, bits)
        if len(pair) != 2:
            raise InputError(
                f'`layers["{name}"]` must be one bit-width or (weights, activations), got {bits!r}.'
            )
        special[name] = (check_bits(f'layers["{name}"]', pair[0]), check_bits(f'layers["{name}"]', pair[1]))
    return special


def _skipped(
    found: list[str], skip: Sequence[str] | None, special: Mapping[str, tuple[int, int]]
) -> set[str]:
    """The layers that stay in full precision."""
    if skip is None:
        return {name for name in (found[:1] + found[-1:]) if name not in special}
    if isinstance(skip, str):
        raise InputError(f'`skip` must be a list of names, got "{skip}". Write skip=["{skip}"].')
    skipped = set()
    for name in skip:
        covered = {one for one in found if _covers(name, one)}
        if not covered:
            raise InputError(unknown("layer in `skip`", name, found))
        skipped |= covered
    if both := sorted(skipped & set(special)):
        raise InputError(f'"{both[0]}" is both in `skip` and in `layers`. Leave it out of one of them.')
    return skipped


def _bits(name: str, special: Mapping[str, tuple[int, int]], default: int, place: int) -> int:
    """The bits of one module: those of the longest name in `special` that covers it."""
    covering = [prefix for prefix in special if _covers(prefix, name)]
    return special[max(covering, key=len)][place] if covering else default
