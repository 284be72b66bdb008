"""Networks from own code, `FILE.py:name`: built as they come, and given what the rest of the package asks for.

A network needs `taps` (for losses of features), `act_points` (to be quantized) and `reset` (for the members of a
search). Those that it does not have are added to the object: its classes and its forward stay as they are.
"""

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rolewise.errors import InputError, InputTypeError
from rolewise.networks.propose import Proposal, propose
from rolewise.own_code import OwnCode, load_own_code, own_errors
from rolewise.seeds import derive_seed


@dataclass(frozen=True)
class OwnNetwork:
    """A network from own code.

    Args:
        model: the network.
        code: the code that made it.
        proposal: taps and act points, where the network names none of one kind; None if it names both.
        proposed: which of "taps" and "act_points" were proposed.
    """

    model: nn.Module
    code: OwnCode
    proposal: Proposal | None
    proposed: tuple[str, ...]

    def note(self) -> str | None:
        """What a person should know about the proposal."""
        if self.proposal is None:
            return None
        chosen = [f"self.{name} = {list(getattr(self.proposal, name))}" for name in self.proposed]
        text = (
            f"{self.code.spec} names no {' and no '.join(self.proposed)}; proposed from a forward pass "
            f"(put them into its constructor to keep or to change them): {'; '.join(chosen)}"
        )
        if "act_points" in self.proposed and self.proposal.unnamed:
            text += (
                f". {self.proposal.unnamed} ReLUs are functions and not the output of any module: they stay in full "
                "precision unless you make them nn.ReLU modules"
            )
        return text


def build_own(
    spec: str,
    *,
    num_classes: int,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    image: tuple[int, int, int] | None = None,
) -> OwnNetwork:
    """The network that own code makes.

    Args:
        spec: "FILE.py:name" of a function that returns a `torch.nn.Module`, or of such a class. It is called with
            `num_classes`, if it takes that, and the arguments.
        num_classes: number of classes of the data.
        arguments: more of them, JSON.
        seed: base seed of the initial weights: the code draws them from torch's global generator, seeded for that time
            alone.
        image: (channels, height, width) on which missing taps and act points are found; None leaves them out.

    Raises:
        InputError: no such file or name, arguments that it does not take, an error within it (with file and line), or
            something that is no network.
    """
    code = load_own_code(spec, "network")
    given = dict(arguments or {})
    if "num_classes" not in given and _takes(code.value, "num_classes"):
        given["num_classes"] = num_classes
    model = _make(code, given, derive_seed(seed, "network", code.name))
    if not callable(getattr(model, "reset", None)):
        model.reset = functools.partial(_reset, model, spec, given)  # type: ignore[assignment]
    if not isinstance(getattr(model, "architecture", None), Mapping):
        own = {"name": code.name, "file": code.path.name, "sha256": code.sha256}
        stated = {**given, "num_classes": num_classes}
        about = {"name": None, "class": type(model).__name__, "own": own, "arguments": stated}
        model.architecture = about  # type: ignore[assignment]
    missing = tuple(name for name in ("taps", "act_points") if not _names(model, name))
    if not missing or image is None:
        return OwnNetwork(model, code, None, ())
    with own_errors(code.path, f"a forward pass of {type(model).__name__} with images of {tuple(image)}"):
        found = propose(model, torch.zeros(2, *image))
    for name in missing:
        setattr(model, name, getattr(found, name))
    return OwnNetwork(model, code, found, missing)


def _names(model: nn.Module, name: str) -> bool:
    """Whether the network states such a list of module names; an attribute of another kind belongs to other code."""
    value = getattr(model, name, None)
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters or any(one.kind == one.VAR_KEYWORD for one in parameters.values())


def _make(code: OwnCode, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """Calls own code with torch's global generator seeded for that time alone."""
    try:
        inspect.signature(code.value).bind(**arguments)
    except TypeError as error:
        raise InputTypeError(f'"{code.spec}" cannot be called with {dict(arguments)}: {error}.') from None
    except ValueError:  # a class without a signature
        pass
    with torch.random.fork_rng(devices=[]), own_errors(code.path, f"{code.name}({', '.join(arguments)})"):
        torch.manual_seed(seed)
        model = code.value(**arguments)
    if not isinstance(model, nn.Module):
        raise InputTypeError(f'"{code.spec}" must return a torch.nn.Module, got {type(model).__name__}.')
    if next(model.parameters(), None) is None:
        raise InputError(f'"{code.spec}" returns a {type(model).__name__} without weights.')
    return model.cpu()


def _reset(model: nn.Module, spec: str, arguments: Mapping[str, Any], generator: torch.Generator) -> None:
    """Redraws all weights as the network's own constructor does, in place."""
    seed = int(torch.randint(2**62, (), generator=generator))
    fresh = _make(load_own_code(spec, "network"), arguments, seed).state_dict()
    mine = model.state_dict()
    with torch.no_grad():
        for name, tensor in fresh.items():
            mine[name].copy_(tensor)
    for module in model.modules():
        if callable(renew := getattr(module, "reset_quantizer", None)):
            renew()
