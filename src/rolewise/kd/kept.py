"""What tapped modules return, also if the network writes into it afterwards (`nn.ReLU(inplace=True)`, `out += x`)."""

from weakref import WeakKeyDictionary

from torch import Tensor, nn

from rolewise.errors import InputError

_overwritten: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def may_be_overwritten(module: nn.Module) -> bool:
    """Whether the network writes into what the module returns; True until a forward pass has shown that it does not."""
    return _overwritten.get(module, True)


class Kept:
    """The output of a tapped module: a copy where the network writes into it later, else the output itself.

    The first forward pass copies and looks at the version counter of the output at the end; from then on only what
    was written into is copied. (Always copying would cost memory, and would change the order in which gradients are
    added.)

    Args:
        module: the tapped module.
        output: the tensor that it returned.
    """

    def __init__(self, module: nn.Module, output: Tensor) -> None:
        self._module, self._output = module, output
        # Inference tensors have no counter.
        self._version = None if output.is_inference() else output._version
        self._copied = self._version is None or may_be_overwritten(module)
        self.value = output.clone() if self._copied else output

    def check(self, name: str) -> None:
        """To be called after the forward pass.

        Args:
            name: the tap's, for the message.

        Raises:
            InputError: the output was overwritten, which earlier passes did not do.
        """
        if self._version is None:
            return
        changed = self._output._version != self._version
        if changed and not self._copied:
            raise InputError(
                f'The output of the tap "{name}" was overwritten by an in-place operation in this forward pass, but '
                "not in the first one. Let that operation (a dropout with inplace=True, for example) not work in "
                "place, or tap another module."
            )
        _overwritten[self._module] = changed or _overwritten.get(self._module, False)
