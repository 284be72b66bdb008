"""Quantized weights as packed codes within a file's tensors, and back."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rolewise.errors import InputError
from rolewise.pretrained.packing import pack, packed_bytes, unpack
from rolewise.pretrained.tracing import check_own_weights
from rolewise.quant import Grid
from rolewise.quant.layers import QuantizedWeight, quantized_weights

CODES = ".codes"  # a packed weight's name is the weight's with this behind it


def pack_weights(model: nn.Module, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors with codes in place of quantized weights, and how the codes decode.

    Raises:
        InputError: a network without quantized weights, or with weights that a hook recomputes.
    """
    if not quantized_weights(model):
        raise InputError("`packed` needs a network with quantized weights: see `rolewise.quantize`.")
    check_own_weights(model)
    # A module may be registered under several names, of which `state_dict` has all.
    names: dict[QuantizedWeight, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, QuantizedWeight):
            names.setdefault(module, []).append(name)
    kept, grids = dict(tensors), {}
    for layer, (name, *others) in names.items():
        if layer.weight.dtype != torch.float32:  # levels are those of float32
            layer = copy.deepcopy(layer).float()
        grid = layer.weight_grid()
        with torch.no_grad():
            codes = grid.encode(layer.quantized_weight().cpu())
        for one in (name, *others):
            for learned in ("weight", *layer.learned):
                kept.pop(f"{one}.{learned}")
        kept[f"{name}.weight{CODES}"] = torch.from_numpy(pack(codes.numpy(), grid.bits))
        grids[name] = {**grid.to_json(), "shape": list(codes.shape)} | ({"also": others} if others else {})
    return {name: _single(tensor) for name, tensor in kept.items()}, grids


def _single(tensor: Tensor) -> Tensor:
    """A half type as float32, as the decoded weights are."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize == 2 else tensor


def unpack_weights(source: str, stated: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `pack_weights`; the quantization of `stated` gets the grids.

    Raises:
        InputError: codes and their description do not fit.
    """
    found = dict(tensors)
    grids = {}
    for name, entry in stated["packed"].items():
        try:
            grid, shape = Grid.from_json(entry), [int(size) for size in entry["shape"]]
            count = int(np.prod(shape, dtype=np.int64))
            codes = found.pop(f"{name}.weight{CODES}")
            if codes.dtype != torch.uint8 or codes.numel() != packed_bytes(count, grid.bits):
                raise ValueError(f"{codes.numel()} bytes for {count} codes of {grid.bits} bits")
            others = [str(other) for other in entry.get("also", ())]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f'The packed weight of "{name}" in {source} cannot be read: {error}.') from error
        flat = unpack(codes.numpy(), grid.bits, count)
        decoded = grid.decode(torch.from_numpy(flat).reshape(shape))
        for one in (name, *others):
            found[f"{one}.weight"] = decoded
        grids[name] = grid.to_json()
    stated["quantization"] = {**stated["quantization"], "grids": grids}
    return found
